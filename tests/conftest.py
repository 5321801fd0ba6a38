"""What all tests share."""

import gc
import os
import resource
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.effort import effort

# No test of random values depends on the speed of the machine. Hypothesis is imported here also because it
# can't find who holds trio's random numbers, and warns, once what is imported is frozen.
settings.register_profile(
    "any speed", max_examples=effort(100, 40), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any speed")

# A job that a script began in the background ignores Ctrl-C, and so would every program that it starts: those
# that are interrupted by a test would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# gcsfs reads this when it is imported. Otherwise it asks Google's own servers what kind of bucket each is,
# even one of an emulator, and waits a minute for them where the network leads nowhere.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

# Tests ask no server of the internet, and each client of a bucket and each context of TLS reads all
# authorities of the system, which takes longer than most tests do. It is an error to have none.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
os.environ.pop("SSL_CERT_DIR", None)

pytest.register_assert_rewrite("holdall.testing", "tests.requirements")


SERVED = (
    "test_path",
    "test_valkey",
    "test_bucket",
    "test_http",
    "test_fsspec",
    "test_sql",
    "test_requirements",
    "test_zarr",
    "test_obspec_reference",
)
"""What the names of the files begin with whose tests start servers."""

LONG = (
    "test_benchmarks",
    "test_docs",
    "test_git_remotes",
    "test_journal",
    "test_plugin_package",
    "test_pool",
)
"""The same of the files that have tests of many seconds, which would be too long at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kit", action="store_true", help="run the suites of the conformance kit only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the dearest tests, so that no worker is left with them; with `--kit`, keep suites only;
    without `HOLDALL_KIT=full`, leave out `Combined` suites.

    Each worker first gets a stretch of tests, as long as those of the others. So those that need servers are
    dealt out, a file to one worker: each worker that runs one of them starts the servers.
    """
    from tests.again import Combined

    from holdall.testing import StoreSuite

    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"an address differs in each worker: give this test ids: {item.nodeid}")

    def suite_of(item: pytest.Item) -> type[StoreSuite] | None:
        cls = getattr(item, "cls", None)
        return cls if cls is not None and issubclass(cls, StoreSuite) else None

    def rank(item: pytest.Item) -> int:
        suite = suite_of(item)
        if suite is None:
            return 2 if item.path.name.startswith(LONG) else 3
        return 1 if suite.reduced else 0

    def runs(item: pytest.Item) -> bool:
        suite = suite_of(item)
        if suite is None:
            return not config.getoption("kit")
        return effort(True, not issubclass(suite, Combined))

    config.hook.pytest_deselected(items=[item for item in items if not runs(item)])
    items[:] = [item for item in items if runs(item)]
    files = Counter(item.path.name for item in items if item.path.name.startswith(SERVED))
    shares = [list[pytest.Item]() for _ in range(getattr(config, "workerinput", {}).get("workercount", 1))]
    for name, _ in files.most_common():
        min(shares, key=len).extend(item for item in items if item.path.name == name)
    rest = sorted((item for item in items if item.path.name not in files), key=rank)
    for number, share in enumerate(shares):
        wanted = (len(items) - sum(map(len, shares[:number]))) // (len(shares) - number) - len(share)
        share += rest[: max(wanted, 0)] if number < len(shares) - 1 else rest
        del rest[: max(wanted, 0)]
    items[:] = [item for share in shares for item in share]


def pytest_configure() -> None:
    """Let a worker open many files: the clients of clouds keep their connections as long as the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft not in (resource.RLIM_INFINITY, most) and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def pytest_sessionstart() -> None:
    """Pass over interrupts that Python drops.

    One that a test raises in a finalizer, or in a callback of a weak reference or of the garbage collector,
    isn't a fault of the code under test.
    """
    hook = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            hook(unraisable)

    sys.unraisablehook = report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what is imported and collected, since it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays, so that no collection of garbage has to look at it again: nor
    does one now, which takes a second."""
    keep()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """So does what tests import: the packages of clouds make a collection take a fifth of a second."""
    if len(sys.modules) > modules + 20:
        freeze()


modules = 0
"""How many were imported at the last freeze."""


def keep() -> None:
    global modules
    gc.freeze()
    modules = len(sys.modules)


def freeze() -> None:
    # A store that a test before this one left open is that test's matter, and most stores may be left open.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    keep()
