"""What the worker processes do with a store."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import traceback
from collections.abc import Callable, Mapping

from holdall.errors import BlobExistsError
from holdall.store import ABSENT, Can, Store
from holdall.testing.running import fork, wait_for
from holdall.testing.samples import MIB, hash_bytes, make_noise

Say = Callable[[object], object]


def write_for_ever(store: Store, seed: int, say: Say) -> None:
    """Write in every way; report before each write what keys will hold, and after it that it is done."""
    rng = random.Random(seed)
    small = [f"small/{number}" for number in range(8)]

    def value(limit: int) -> bytes:
        return make_noise(rng.randrange(limit), rng.getrandbits(64))

    while True:
        key, data = rng.choice(small), value(20_000)
        match rng.randrange(9):
            case 0 | 1:
                say({key: hash_bytes(data)})
                store.put(key, data)
            case 2:
                key, data = rng.choice(("large/0", "large/1")), value(3 * MIB)
                say({key: hash_bytes(data)})
                store.put(key, (data[at : at + 300_000] for at in range(0, len(data), 300_000)))
            case 3:
                many = {key: value(3000) for key in rng.sample(small, 4)} | {f"many/{seed % 5}": data}
                say({key: hash_bytes(each) for key, each in many.items()})
                store.put_many(many)
            case 4:
                say({key: None})
                store.delete(key)
            case 5:
                say({key: hash_bytes(data)})
                with store.open(key, "wb") as file:
                    file.write(data[:100])
                    file.write(data[100:])
            case 6:
                target = rng.choice([other for other in small if other != key])
                held = store.get(key)
                if held is None:
                    continue
                say({target: hash_bytes(held), key: None})
                store.move(key, target)
            case 7:
                target = rng.choice(small)
                held = store.get(key)
                if held is None:
                    continue
                say({target: hash_bytes(held)})
                store.copy(key, target)
            case _:
                gone = rng.sample(small, 2)
                say(dict.fromkeys(gone))
                store.delete_many(gone)
        say("done")


def _warm_up(store: Store, seed: int, say: Say) -> None:
    store.put_many({f"warm/{number}": b"%d" % number for number in range(3)})
    with store.open("warm/3", "wb") as file:
        file.write(b"3")
    store.copy("warm/3", "warm/4")
    store.delete_many(key for key, _ in list(store.items()) if key.startswith("warm/"))
    say(list(sys.modules))


def _count_up(store: Store, seed: int, say: Say) -> None:
    for _ in range(15):
        store.modify("count", lambda old: b"%d" % (int(old) + 1), default=b"0")
    say(seed)


def _create_all(store: Store, seed: int, say: Say) -> None:
    for number in range(15):
        with contextlib.suppress(BlobExistsError):
            store.put(f"create/{number}", b"%d" % seed, expect=ABSENT)
            say(number)


def _pop_all(store: Store, seed: int, say: Say) -> None:
    for number in range(15):
        if store.pop(f"pop/{number}", None) is not None:
            say(number)


def _look(store: Store, seed: int, say: Say) -> None:
    say({key: hash_bytes(data) for key, data in store.items()})
    store.put("seen", b"%d" % seed)


def _go_through_forks(store: Store, seed: int, say: Say) -> None:
    store["before"] = b"1"
    child = fork(lambda: _use(store, "child", say))
    _use(store, "parent", say)
    assert wait_for(child) == 0, "the forked child failed"
    assert store["child/29"] == b"29"


def _answer(store: Store, seed: int, say: Say) -> None:
    """Call `get_through` each time the test asks for it, and answer with the traceback if it failed."""
    with open("asked") as asked, open("answers", "w") as answers:
        for line in asked:
            answer = ""
            try:
                get_through(store, bytes.fromhex(line))
            except Exception:  # noqa: BLE001 - the test fails with it
                answer = traceback.format_exc()
            print(json.dumps(answer), file=answers, flush=True)


def get_through(store: Store, alive: bytes) -> None:
    """Read what another handle acknowledged last, and write: both must work whatever happened to it."""
    assert store.get("alive") == alive, "what was acknowledged after an interrupt isn't there"
    etag = store.put("other", alive).etag
    if Can.SWAP in store.can:
        store.put("other", alive + b"!", expect=etag)
    store.delete("other")


def _use(store: Store, name: str, say: Say) -> None:
    assert store["before"] == b"1"
    for number in range(30):
        store[f"{name}/{number}"] = b"%d" % number
    assert len(list(store.list(f"{name}/"))) == 30
    say(name)


ROLES: Mapping[str, Callable[[Store, int, Say], None]] = {
    "warm": _warm_up,
    "write": write_for_ever,
    "count": _count_up,
    "create": _create_all,
    "pop": _pop_all,
    "look": _look,
    "fork": _go_through_forks,
    "answer": _answer,
}
