"""Attacks on every store that take too long for the tests: half an hour, by `make campaign`."""
