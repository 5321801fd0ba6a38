"""Drive a store and a model through the same steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from holdall.errors import StoreError
from holdall.store import ABSENT, Can, Store
from holdall.stores.memory import MemoryStore
from holdall.testing.faults import Limited
from holdall.testing.helped import Helped, open_handle, takes_unsafely
from holdall.testing.samples import key_of, make_noise, read_all, without_times

_PUTS = ("put", "stream", "file", "create", "swap", "stale", "setdefault")

_keys = st.sampled_from(("a", "b", "d/x", "d/y", "d.z", "d-z", "d0", "d/e/f", "é", "Ω%_", "B", "a\\b"))
# A size stands for a blob of noise, which a failure must not print.
_values = st.one_of(st.binary(max_size=40), st.sampled_from((70_000, 200_000)))
_ends = st.one_of(st.none(), st.integers(-50, 50))
_prefixes = st.sampled_from(("", "d", "d/", "d.", "d/e", "x", "_", "%", "Ω%", "*", "a\\", "é"))
_steps = st.one_of(
    st.tuples(st.sampled_from(_PUTS), _keys, _values),
    st.tuples(
        st.sampled_from(("delete", "delete same", "delete stale", "pop", "get", "info", "modify")), _keys
    ),
    st.tuples(st.just("range"), _keys, st.integers(-50, 50), _ends),
    st.tuples(st.sampled_from(("copy", "move", "copy new")), _keys, _keys),
    st.tuples(st.sampled_from(("list", "children", "exclude", "glob")), _prefixes),
    st.tuples(st.just("put many"), st.dictionaries(_keys, _values, max_size=4)),
    st.tuples(st.sampled_from(("get many", "delete many")), st.lists(_keys, max_size=5)),
    st.tuples(st.sampled_from(("popitem", "clear", "reopen", "other"))),
)


def _outcome(store: Store, stale: dict[str, str], step: tuple[Any, ...]) -> object:
    """Take a step; return what it gives or raises, in terms that two stores share."""
    try:
        return without_times(_take(store, stale, *step))
    except StoreError as error:
        return type(error), error.key


def _take(store: Store, stale: dict[str, str], action: str, *rest: Any) -> object:
    key: Any = rest[0] if rest else ""
    data = _make_value(rest[1]) if action in _PUTS else b""

    def current() -> str:
        return store.info(key).etag if key in store else "none"

    def old() -> str:
        # The bytes may be those of old again, and with them the ETag of a store that hashes.
        etag = stale.get(key, "none")
        return "stale" if etag == current() else etag

    def write_file() -> object:
        with store.open(key, "wb") as file:
            file.write(data)
        return store.info(key)

    if action in ("put", "stream", "file", "swap"):
        stale.setdefault(key, current())
    actions: dict[str, Callable[[], object]] = {
        "put": lambda: store.put(key, data),
        "stream": lambda: store.put(key, (data[at : at + 1000] for at in range(0, len(data), 1000))),
        "file": write_file,
        "create": lambda: store.put(key, data, expect=ABSENT),
        "swap": lambda: store.put(key, data, expect=current()),
        "stale": lambda: store.put(key, data, expect=old()),
        "setdefault": lambda: store.setdefault(key, data),
        "delete": lambda: store.delete(key),
        "delete same": lambda: store.delete(key, expect=current()),
        "delete stale": lambda: store.delete(key, expect="stale"),
        "pop": lambda: store.pop(key),
        "get": lambda: (store.get(key), key in store, b"".join(store.chunks(key, 7))),
        "info": lambda: store.info(key),
        "modify": lambda: store.modify(key, lambda old: old[::-1] + b".", default=b"new"),
        "range": lambda: store.get_range(*rest),
        "copy": lambda: store.copy(*rest),
        "copy new": lambda: store.copy(*rest, expect=ABSENT),
        "move": lambda: store.move(*rest),
        "list": lambda: ([*map(without_times, store.list(key))], list(store.iterate_keys(key))),
        "children": lambda: [key_of(child) for child in store.children(key)],
        "exclude": lambda: list(store.iterate_keys(exclude_prefix=key)),
        "glob": lambda: list(store.iterate_keys(glob=key + "*")),
        "put many": lambda: store.put_many({key: _make_value(value) for key, value in rest[0].items()}),
        "get many": lambda: store.get_many(key),
        "delete many": lambda: store.delete_many(key),
        "popitem": store.popitem,
        "clear": store.clear,
    }
    return actions[action]()


def _make_value(value: bytes | int) -> bytes:
    return make_noise(value) if isinstance(value, int) else value


_UNCHECKED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


def check_laws(
    make: Callable[[Path], Store],
    place: Path,
    *,
    fill: Callable[[Path], Store] | None = None,
    same_infos: bool = True,
    examples: int = 80,
    seed: int = 0,
) -> None:
    """Drive a store and a `MemoryStore` through the same steps, which hypothesis makes up, on two handles
    that are closed and opened again; compare what each step gives and what is there at the end.

    Args:
        make: Opens a store in a folder.
        place: An empty folder.
        fill: Opens a store that can write, delete and list, if `make`'s can't; as `StoreSuite.fill`.
        same_infos: As `StoreSuite.same_infos`.
        examples: How many sequences of steps.
        seed: Which sequences: the same number gives the same ones.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_laws(lambda place: MemoryStore(name=str(place)), Path(folder), examples=3)
    """

    def open_one(folder: Path) -> Store:
        return open_handle(make, fill or make, folder, same_infos)

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=_UNCHECKED,
    )
    @given(st.sets(_keys, min_size=3), st.lists(_steps, min_size=12, max_size=40))
    def check(first: set[str], steps: list[tuple[Any, ...]]) -> None:
        folder = Path(tempfile.mkdtemp(dir=place))
        handles = [open_one(folder), open_one(folder)]
        model: Store = Limited(MemoryStore(), handles[0].can | Can.RANGE)
        if takes_unsafely(model):
            model = Helped(model, model)
        try:
            start = ("put many", {key: key.encode() * 9 for key in sorted(first)})
            _compare(handles, model, [start, *steps], lambda: open_one(folder))
        finally:
            for handle in handles:
                handle.close()

    check()


def _compare(
    handles: list[Store], model: Store, steps: list[tuple[Any, ...]], reopen: Callable[[], Store]
) -> None:
    """Take the same steps on handles of a store and on its model; what comes of each must be the same."""
    stale: tuple[dict[str, str], dict[str, str]] = {}, {}
    for step in steps:
        if step[0] == "other":
            handles.reverse()
        elif step[0] == "reopen":
            # One handle stays open, for a medium that lives only as long as a handle on it.
            handles[0].close()
            handles[0] = reopen()
        else:
            assert _outcome(handles[0], stale[0], step) == _outcome(model, stale[1], step), step
    for handle in handles:
        assert read_all(handle) == read_all(model)
        assert list(map(without_times, handle.list())) == list(map(without_times, model.list()))
