"""The awkward keys of the kit, on stores whose suites try few of them."""

from tests.effort import effort

from holdall import Store
from holdall.keys import MAX_KEY_BYTES
from holdall.testing import GOOD_KEYS


def check_awkward_keys(store: Store, folder: str, third: int) -> None:
    """Put, list and get many at once: one of three thirds, or all if `HOLDALL_KIT` is `full`."""
    step = effort(1, 3)
    keys = [key for key in GOOD_KEYS if len(f"{folder}/{key}".encode()) <= MAX_KEY_BYTES]
    keys = keys[third % step :: step]
    blobs = {key: b"%d" % number for number, key in enumerate(keys)}
    assert list(store.put_many(blobs)) == keys
    assert list(store) == sorted(keys)
    assert store.get_many(keys) == blobs
