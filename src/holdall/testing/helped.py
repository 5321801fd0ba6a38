"""A store that can't write, delete, pop, move or list, with a helper over the same blobs that can."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from holdall.store import Can, Info, Store
from holdall.testing.faults import Limited

_FILLING = Can.WRITE | Can.DELETE | Can.LIST
"""What the kit itself needs, to fill a store and to see what is in it."""

_TAKING = frozenset(("pop", "popitem", "move"))
"""The calls that a store with SWAP, but without CONDITIONAL_DELETE, refuses."""


# Which flags each call needs. One that the store under test lacks, its helper has.
_NEEDED: Mapping[str, Can] = {
    name: flags
    for names, flags in (
        ("get __getitem__ __contains__ exists info get_range get_many chunks sign", Can(0)),
        ("read get_ranges iterate_many checksum", Can(0)),
        ("_read _info _digest _local_path _read_spans", Can(0)),
        ("put __setitem__ setdefault update put_many copy modify touch _write _touch", Can.WRITE),
        ("delete __delitem__ delete_many pop _delete", Can.DELETE),
        ("list iterate_keys children split left_out __iter__ __len__ __bool__ _scan _survey", Can.LIST),
        ("keys values items", Can.LIST),
        ("move", Can.WRITE | Can.DELETE),
        ("popitem clear delete_prefix", Can.DELETE | Can.LIST),
    )
    for name in names.split()
}


class Helped(Store):
    """A store under test that can't write, delete, pop, move or list, with a helper over the same blobs that
    can: each call is made on the store, if it can do it, else on the helper.

    So the store reads what the helper puts, and every test runs on a store of any kind.

    Args:
        tested: The store under test.
        helper: A handle that can write, delete and list.
        same_infos: Whether the helper and the store return equal infos of a blob.
    """

    def __init__(self, tested: Store, helper: Store, same_infos: bool = True) -> None:
        lacking = _FILLING & ~tested.can
        assert lacking in helper.can, f"fill gives a store that can't {lacking & ~helper.can}"
        self._tested, self._helper, self._same_infos = tested, helper, same_infos
        self.inline = tested.inline and helper.inline
        self.can = tested.can | lacking
        if Can.WRITE in lacking:
            # What is kept with a blob is read too; conditions of a write are the helper's affair.
            self.can |= helper.can & (Can.EXPIRE | Can.ATTRIBUTES | Can.METADATA)
        self._acting = Limited(helper, self.can | Can.RANGE)
        # Without conditions the helper pops and moves as stores do that have none; no test counts on more.
        self._taking = Limited(helper, (self.can | Can.RANGE) & ~Can.SWAP) if takes_unsafely(tested) else None

    def _settings(self) -> dict[str, object]:
        return {"tested": self._tested, "helper": self._helper, "same_infos": self._same_infos}

    def _call_below(self, name: str, *arguments: Any, **options: Any) -> Any:
        needed = _NEEDED[name]
        if name in _TAKING and self._taking is not None:
            return getattr(self._taking, name)(*arguments, **options)
        if needed in self._tested.can:
            return getattr(self._tested, name)(*arguments, **options)
        if needed is Can.LIST and name in ("keys", "values", "items"):
            # The view lists through the helper, and looks and reads through the store.
            return getattr(super(), name)()
        if self._same_infos or name.startswith("_") or needed is Can.LIST:
            return getattr(self._acting, name)(*arguments, **options)
        with _telling:
            return self._replace_infos(getattr(self._acting, name)(*arguments, **options))

    def _replace_infos(self, written: Any) -> Any:
        """Return the infos of the store under test of what was written."""
        if isinstance(written, Info):
            return self._tested.info(written.key)
        if isinstance(written, dict):
            return {key: self._replace_infos(info) for key, info in cast("dict[str, Info]", written).items()}
        return written

    def open(self, key: str, mode: str = "rb", **options: Any) -> Any:
        writes = isinstance(mode, str) and not {"w", "x", "a"}.isdisjoint(mode)
        store = self._acting if writes and Can.WRITE not in self._tested.can else self._tested
        return store.open(key, mode, **options)

    def local(self, key: str, *, write: bool = False, **options: Any) -> Any:
        store = self._acting if write and Can.WRITE not in self._tested.can else self._tested
        return store.local(key, write=write, **options)

    def close(self) -> None:
        try:
            self._tested.close()
        finally:
            self._helper.close()

    def __enter__(self) -> Helped:
        assert self._tested.__enter__() is self._tested
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._tested.__exit__(*error)
        finally:
            self._helper.close()

    def __repr__(self) -> str:
        return repr(self._tested)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tested, name)


def _route(name: str) -> Callable[..., Any]:
    def call(self: Helped, *arguments: Any, **options: Any) -> Any:
        return self._call_below(name, *arguments, **options)

    return call


for _name in _NEEDED:
    setattr(Helped, _name, _route(_name))


_telling = threading.RLock()
"""Held from a write by the helper until the store under test has returned its info."""


def takes_unsafely(store: Store) -> bool:
    """Return whether a store checks an ETag when it puts but not when it deletes, so that it pops nothing."""
    return Can.SWAP in store.can and Can.CONDITIONAL_DELETE not in store.can


def get_tested(store: Store) -> Store:
    """Return the store under test itself, without its helper."""
    return store._tested if isinstance(store, Helped) else store


def open_handle(
    make: Callable[[Path], Store], fill: Callable[[Path], Store], place: Path, same_infos: bool = True
) -> Store:
    """Return a handle that can do every call that the kit needs."""
    store = make(place)
    if _FILLING in store.can and not takes_unsafely(store):
        return store
    return Helped(store, fill(place), same_infos)
