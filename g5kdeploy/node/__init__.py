"""Reaching machines: SSH through fabric, fan-out, host keys, the state of one node."""
