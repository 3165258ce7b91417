"""The run folder: what was asked, what was got, what was measured; the report."""
