"""The experiment file: schema, loading, every error at once with file and line."""
