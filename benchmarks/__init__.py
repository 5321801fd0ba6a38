"""Every speed claim of holdall, against the bare calls and peers, in one run: `python -m benchmarks`."""
