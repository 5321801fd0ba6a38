"""The catalogue: Python objects with metadata, deduplicated and queryable."""
