"""Renderers of the event stream: live terminal, plain lines, JSON lines. Used by cli alone."""
