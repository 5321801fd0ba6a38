"""Stores as other libraries want them: one file for each library."""
