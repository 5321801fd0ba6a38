"""The conformance kit: one subclass with one factory is a store's whole test.

    from holdall.testing import StoreSuite

    class TestMyStore(StoreSuite):
        def make(self, place):
            return MyStore(place / "data")

pytest finds and runs it. If the store can't write, delete or list, define `fill` too. `BackendSuite` is the
same for where a catalogue keeps its rows. For readable failures, call
`pytest.register_assert_rewrite("holdall.testing")` in a `conftest.py`. The kit forks and kills processes and
reads `/proc`: it runs on POSIX systems.
"""

from importlib import import_module

from holdall.errors import MissingDependencyError

try:
    for _name in ("pytest", "hypothesis"):
        import_module(_name)
except ImportError:
    raise MissingDependencyError(
        "the conformance kit needs pytest and hypothesis: pip install 'holdall[testing]'"
    ) from None

from holdall.testing.backend import BackendSuite
from holdall.testing.faults import Corrupting, Counting, Flaky, Hanging, Limited, Slow
from holdall.testing.keys import BAD_KEYS, GOOD_KEYS
from holdall.testing.laws import check_laws
from holdall.testing.refusals import check_refusals
from holdall.testing.running import race
from holdall.testing.suite import StoreSuite, assert_whole

__all__ = [
    "BAD_KEYS",
    "GOOD_KEYS",
    "BackendSuite",
    "Corrupting",
    "Counting",
    "Flaky",
    "Hanging",
    "Limited",
    "Slow",
    "StoreSuite",
    "assert_whole",
    "check_laws",
    "check_refusals",
    "race",
]
