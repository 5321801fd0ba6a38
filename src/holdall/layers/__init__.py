"""Stores made of stores: one file per layer."""
