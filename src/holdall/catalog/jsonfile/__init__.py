"""A catalogue's rows in a JSON file that a person can read, and a journal next to it."""

from holdall.catalog.jsonfile.backend import JsonBackend

__all__ = ["JsonBackend"]
