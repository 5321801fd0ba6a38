"""The whole conformance suite: its parts, and the check that no suite leaves one out."""

from __future__ import annotations

from inspect import getattr_static
from typing import Any, cast

from holdall.keys import MAX_KEY_BYTES
from holdall.testing.suites.bodies import BodyTests
from holdall.testing.suites.colours import AsyncTests
from holdall.testing.suites.files import FileTests
from holdall.testing.suites.items import ItemTests
from holdall.testing.suites.keys import KeyTests
from holdall.testing.suites.life import LifeTests
from holdall.testing.suites.listing import ListingTests
from holdall.testing.suites.local import LocalTests
from holdall.testing.suites.locks import LockTests
from holdall.testing.suites.mapping import MappingTests
from holdall.testing.suites.threads import ThreadTests
from holdall.testing.suites.versions import VersionTests


class StoreSuite(
    MappingTests,
    BodyTests,
    FileTests,
    LocalTests,
    VersionTests,
    ItemTests,
    ListingTests,
    KeyTests,
    LifeTests,
    ThreadTests,
    LockTests,
    AsyncTests,
):
    """The whole test of a store: subclass it, name the class `Test...`, and define `make`.

    No test may be overridden: such a class raises `TypeError` when it is defined. If the store can't write,
    delete or list, define `fill` too.

    >>> from holdall import MemoryStore
    >>> class TestStore(StoreSuite):
    ...     persistent = False
    ...     def make(self, place):
    ...         return MemoryStore(name=str(place))
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        refuse_changes(cls, StoreSuite, FIXED)

    def test_the_suite_is_whole(self) -> None:
        assert_whole(type(self))


def assert_whole(*suites: type[StoreSuite]) -> None:
    """Check that suites run every test of `StoreSuite` unchanged: none is overridden, skipped or expected to
    fail, and as many writers are killed.

    >>> from holdall import MemoryStore
    >>> class TestStore(StoreSuite):
    ...     make = staticmethod(lambda place: MemoryStore(name=str(place)))
    ...     persistent = False
    >>> assert_whole(TestStore)
    """
    for suite in suites:
        changed = _find_changes(suite, StoreSuite, FIXED)
        assert not changed, f"{suite.__name__} changes {', '.join(changed)}"
        for name in ("", *(name for name in dir(suite) if name.startswith("test"))):
            marked: Any = getattr(suite, name) if name else suite
            marks: Any = getattr(marked, "pytestmark", [])
            for mark in cast("list[Any]", marks if isinstance(marks, list) else [marks]):
                kind = mark.name
                assert kind not in ("skip", "skipif", "xfail"), f"{suite.__name__} has a {kind} on {name}"
        assert getattr(suite, "__test__", True), f"{suite.__name__} isn't collected"
        for name in ("kills", "interrupts", "laws"):
            least: int = getattr(StoreSuite, name)
            assert getattr(suite, name) >= least, f"{suite.__name__} tries fewer {name} than {least}"
        assert suite.longest >= MAX_KEY_BYTES // 2, f"{suite.__name__} allows too short keys only"


FIXED = ("place", "store", "other", "_handle", "_grade", "_effort", "_choose", "_choose_keys")


def refuse_changes(suite: type, whole: type, fixed: tuple[str, ...]) -> None:
    """Raise `TypeError` for a subclass of a suite that overrides its tests, or what they rely on."""
    changed = _find_changes(suite, whole, fixed)
    if changed:
        raise TypeError(f"{suite.__name__} overrides {', '.join(changed)}; a suite runs whole")


def _find_changes(suite: type, whole: type, fixed: tuple[str, ...]) -> list[str]:
    names = [name for name in dir(whole) if name.startswith("test") or name in fixed]
    return [name for name in names if getattr_static(suite, name, None) is not getattr_static(whole, name)]
