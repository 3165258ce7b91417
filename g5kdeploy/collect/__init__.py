"""What comes back from the nodes: metrics, logs, files."""
