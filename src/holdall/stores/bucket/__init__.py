"""Stores in a bucket of an object storage."""
