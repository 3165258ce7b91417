"""g5kdeploy: from one experiment file to a reproducible run on Grid'5000, or on a local stand-in for it."""

__version__ = "0.1.0"
