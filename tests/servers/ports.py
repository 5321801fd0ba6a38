"""Ports of loopback that servers of tests may listen at."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """Return a port that nobody listens at. The port 10,000 higher is free too: the bus of a Valkey cluster
    listens there.

    Linux gives connections the ports from 32,768 on, and both of these are lower. A port that Linux chose
    could belong to another test's connection by the time the server listens at it.
    """
    while True:
        # `random` itself may have been seeded, with the same number in two workers.
        port = random.SystemRandom().randrange(12_000, 22_000)
        try:
            for each in (port, port + 10_000):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port
