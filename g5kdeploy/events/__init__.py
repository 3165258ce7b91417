"""Event types, the two kinds of error, exit codes."""
