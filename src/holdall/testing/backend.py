"""The conformance suite of metadata backends: where a catalogue may keep its rows."""

from __future__ import annotations

from holdall.testing.suite import refuse_changes
from holdall.testing.suites.queries import QueryTests
from holdall.testing.suites.sharing import SharingTests
from holdall.testing.suites.smallobjects import SmallObjectTests
from holdall.testing.suites.transactions import TransactionTests


class BackendSuite(TransactionTests, SmallObjectTests, QueryTests, SharingTests):
    """The whole test of a metadata backend: subclass it, name the class `Test...`, and define `make`.

    No test may be overridden: such a class raises `TypeError` when it is defined.

    >>> from holdall.catalog.sqlite import SqliteBackend
    >>> class TestBackend(BackendSuite):
    ...     def make(self, place):
    ...         return SqliteBackend(place / "rows.db")
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        refuse_changes(cls, BackendSuite, ("place", "backend", "other"))
