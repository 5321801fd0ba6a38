"""The peers, one file a library, so that one that is not installed leaves the others alone."""
