"""The doors to the machine: subprocess, deadline, clock, atomic files, locks, text cleaning. Knows no testbed."""
