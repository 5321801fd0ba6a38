"""Holders of a lock that are killed, and that stand still for longer than their ttl: one holds it at a time,
as far as `check` says so, and each holder's number is greater than those before."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

from campaign.stores import Make
from holdall import Can, LockLostError
from holdall.testing.running import fork

_HOLDERS, _ROUNDS, _TTL = 5, 25, 0.5


def harass(make: Make, place: Path, visit: int) -> int:
    """Kill or stop processes that count their turns under a lock; return how often."""
    with closing(make(place)) as store:
        if Can.SWAP | Can.CREATE not in store.can:
            return 0
        store["turn"] = b"0"
    log = place / "turns"
    log.touch()
    rng = random.Random(visit)
    stops = 0
    holders = [fork(lambda: hold(make, place, log)) for _ in range(_HOLDERS)]
    try:
        for _ in range(_ROUNDS):
            time.sleep(0.05)
            at = rng.randrange(_HOLDERS)
            if rng.random() < 0.6:
                end(holders[at])
                holders[at] = fork(lambda: hold(make, place, log))
            else:
                stops += 1
                os.kill(holders[at], signal.SIGSTOP)
                time.sleep(rng.choice((0.01, 1.5 * _TTL)))
                os.kill(holders[at], signal.SIGCONT)
    finally:
        for holder in holders:
            end(holder)
    # Who is killed may have cut its last line.
    lines = [line.split() for line in log.read_text().splitlines()]
    turns = [(int(line[0]), int(line[1])) for line in lines if len(line) == 3]
    assert turns, "nobody ever had the lock"
    tokens = [token for _, token in turns]
    assert len(set(tokens)) == len(tokens), "two holders had one fencing number"
    # One that stands still between its last check and its line writes it late.
    late = sum(now < before for before, now in pairwise(tokens))
    assert late <= stops, "a fencing number isn't greater than the one before"
    with closing(make(place)) as store, store.lock("job", wait=30) as lock:
        assert lock.token > max(tokens)
    return _ROUNDS


def hold(make: Make, place: Path, log: Path) -> None:
    """Take turns until this process is killed: the turn that is written follows the one that was read."""
    with closing(make(place)) as store, open(log, "ab", buffering=0) as file:
        while True:
            with suppress(LockLostError), store.lock("job", ttl=_TTL) as lock:
                turn = int(store["turn"])
                time.sleep(0.002)
                lock.check()
                # It may stand still here, and write late: the number then shows it.
                store["turn"] = b"%d" % (turn + 1)
                lock.check()
                file.write(b"%d %d .\n" % (turn, lock.token))


def end(process: int) -> None:
    """Kill a process, which may be stopped, and wait for its end."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
