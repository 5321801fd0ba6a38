"""Every awkward key of the kit, on stores whose suites try a fifth of them."""

from holdall import Store
from holdall.keys import MAX_KEY_BYTES
from holdall.testing import GOOD_KEYS


def check_awkward_keys(store: Store, folder: str) -> None:
    """Put, list and get them all, many at once."""
    keys = [key for key in GOOD_KEYS if len(f"{folder}/{key}".encode()) <= MAX_KEY_BYTES]
    blobs = {key: b"%d" % number for number, key in enumerate(keys)}
    assert list(store.put_many(blobs)) == keys
    assert list(store) == sorted(keys)
    assert store.get_many(keys) == blobs
