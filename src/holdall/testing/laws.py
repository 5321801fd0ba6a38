"""Drive a store and a model through the same steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from holdall.errors import StoreError
from holdall.store import ABSENT, Can, Store
from holdall.stores.memory import MemoryStore
from holdall.testing.faults import Limited
from holdall.testing.helped import open_handle
from holdall.testing.samples import key_of, make_noise, read_all, without_times

_LAW_KEYS = ("a", "b", "d/x", "d/y", "d.z", "d-z", "d0", "d/e/f", "é", "Ω%_", "B", "a\\b")


_PUTS = ("put", "stream", "file", "create", "swap", "stale", "setdefault")


_keys = st.sampled_from(_LAW_KEYS)


# A size stands for a blob of noise, which no failure is to print.
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
    """What a step gives or raises, in terms that two stores share."""
    try:
        return without_times(_take(store, stale, *step))
    except StoreError as error:
        return type(error), error.key


def _put(
    store: Store, stale: dict[str, str], action: str, key: str, data: bytes, current: Callable[[], str]
) -> object:
    match action:
        case "put":
            return store.put(key, data)
        case "stream":
            return store.put(key, (data[at : at + 1000] for at in range(0, len(data), 1000)))
        case "file":
            with store.open(key, "wb") as file:
                file.write(data)
            return store.info(key)
        case "create":
            return store.put(key, data, expect=ABSENT)
        case "swap":
            return store.put(key, data, expect=current())
        case "stale":
            etag = stale.get(key, "none")
            # The bytes may be those of old again, and with them the ETag of a store that hashes.
            return store.put(key, data, expect="stale" if etag == current() else etag)
        case _:
            return store.setdefault(key, data)


def _take(store: Store, stale: dict[str, str], action: str, *rest: Any) -> object:
    key: Any = rest[0] if rest else ""
    rest = tuple(
        make_noise(value) if action in _PUTS and isinstance(value, int) else value for value in rest[1:]
    )

    def current() -> str:
        return store.info(key).etag if key in store else "none"

    if action in ("put", "stream", "file", "swap") and isinstance(key, str):
        stale.setdefault(key, current())
    if action in _PUTS:
        return _put(store, stale, action, key, rest[0], current)
    match action:
        case "delete":
            return store.delete(key)
        case "delete same":
            return store.delete(key, expect=current())
        case "delete stale":
            return store.delete(key, expect="stale")
        case "pop":
            return store.pop(key)
        case "get":
            return store.get(key), key in store, b"".join(store.chunks(key, 7))
        case "info":
            return store.info(key)
        case "modify":
            return store.modify(key, lambda old: old[::-1] + b".", default=b"new")
        case "range":
            return store.get_range(key, *rest)
        case "copy":
            return store.copy(key, rest[0])
        case "copy new":
            return store.copy(key, rest[0], expect=ABSENT)
        case "move":
            return store.move(key, rest[0])
        case "list":
            return [without_times(info) for info in store.list(key)], list(store.iterate_keys(key))
        case "children":
            return [key_of(child) for child in store.children(key)]
        case "exclude":
            return list(store.iterate_keys(exclude_prefix=key))
        case "glob":
            return list(store.iterate_keys(glob=key + "*"))
        case "put many":
            many = cast("dict[str, bytes | int]", key).items()
            return store.put_many(
                {key: make_noise(data) if isinstance(data, int) else data for key, data in many}
            )
        case "get many":
            return store.get_many(key)
        case "delete many":
            return store.delete_many(key)
        case "popitem":
            return store.popitem()
        case "clear":
            return store.clear()
        case _:
            raise AssertionError(action)


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
    """Drive a store and a `MemoryStore` through the same steps, made up by hypothesis, on two handles that
    are closed and opened again, and compare what each step gives and what is there at the end.

    Args:
        make: Opens a store in a folder.
        place: An empty folder.
        fill: Opens, for a store that can't write, delete or list, one that can, as `StoreSuite.fill`.
        same_infos: As `StoreSuite.same_infos`.
        examples: How many sequences of steps.
        seed: Which ones: another number gives others, the same number the same.

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
        model = Limited(MemoryStore(), handles[0].can | Can.RANGE)
        stale: tuple[dict[str, str], dict[str, str]] = {}, {}
        try:
            for step in [("put many", {key: key.encode() * 9 for key in sorted(first)}), *steps]:
                if step[0] == "other":
                    handles.reverse()
                elif step[0] == "reopen":
                    # One handle stays open, for a medium that lives only as long as somebody holds it.
                    handles[0].close()
                    handles[0] = open_one(folder)
                else:
                    assert _outcome(handles[0], stale[0], step) == _outcome(model, stale[1], step), step
            for handle in handles:
                assert read_all(handle) == read_all(model)
                assert list(map(without_times, handle.list())) == list(map(without_times, model.list()))
        finally:
            for handle in handles:
                handle.close()

    check()
