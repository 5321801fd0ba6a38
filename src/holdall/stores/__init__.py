"""Where bytes live: one file per medium."""
