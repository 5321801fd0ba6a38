"""Spans cover a store's keys, and are found by a look at a few of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import MemoryStore
from holdall.layers.encrypted import EncryptedStore
from holdall.spans import PAGE, Span, guess_points, sample_points, spans_between
from holdall.store import Store
from holdall.testing import Counting


class Far(MemoryStore):
    """Memory that behaves as a server does, and counts what it lists."""

    _far = True
    looks = listed = 0

    def _keys(self, prefix: str, after: str) -> Iterator[str]:
        self.looks += 1
        for key in super()._keys(prefix, after):
            self.listed += 1
            yield key


def sizes(store: Store, n: int, prefix: str = "") -> list[int]:
    spans = store.split(n, prefix)
    assert len(spans) <= n
    listed = [list(store.iterate_keys(span)) for span in spans]
    assert [key for keys in listed for key in keys] == list(store.iterate_keys(prefix))
    return list(map(len, listed))


NAMES = {
    "counter": lambda at, rng: f"{at:08}",
    "counter of a name": lambda at, rng: f"logs/part-{at:06}.json",
    "number": lambda at, rng: f"item-{at}",
    "random": lambda at, rng: f"{rng.getrandbits(128):032x}",
    "random folders": lambda at, rng: f"{rng.getrandbits(8):02x}/{rng.getrandbits(8):02x}/{at}",
    "word": lambda at, rng: "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=9)),
    "date": lambda at, rng: f"2026-{at // 2500 + 1:02}-{at // 83 % 28 + 1:02}T{at:06}",
    "user": lambda at, rng: f"user-{rng.randrange(200):03}/{rng.choice(('img', 'doc'))}/{at}",
    "Chinese": lambda at, rng: f"é/{chr(0x4E00 + rng.randrange(5000))}{at}",
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_far_store_is_cut_by_a_look_at_a_few_keys(kind: str) -> None:
    rng = random.Random(kind)
    store = Far({NAMES[kind](at, rng): b"" for at in range(30_000)})
    spans = store.split(16)
    assert store.looks <= 16 * 17 + 1
    assert store.listed < 30_000
    found = [sum(1 for _ in store.iterate_keys(span)) for span in spans]
    assert sum(found) == len(store)
    assert max(found) < len(store) / 4


def test_one_fat_prefix_among_others_is_cut() -> None:
    store = Far({f"logs/2026/{at:07}": b"" for at in range(20_000)})
    store.update({f"{folder}/x": b"" for folder in ("a", "b", "zz")})
    assert max(sizes(store, 8)) < 6000
    assert max(sizes(store, 8, "logs/")) < 6000
    assert sizes(store, 8, "absent/") == [0]
    (middle,) = store.split(3, "logs/2026/")[1:2]
    parts = store.split(4, middle)
    assert [key for part in parts for key in store.iterate_keys(part)] == list(store.iterate_keys(middle))
    assert len(parts) > 2


def test_a_near_store_is_listed_once_and_cut_evenly() -> None:
    store = Counting(MemoryStore({f"{at**3}": b"" for at in range(10_000)}))
    found = sizes(store, 7)
    assert max(found) - min(found) < 100


def test_layers_are_far_where_a_listing_can_begin_anywhere() -> None:
    far, key = Far(), EncryptedStore.generate_key()
    assert (far / "logs")._far
    assert EncryptedStore(far, key)._far
    assert not EncryptedStore(far, key, names=EncryptedStore.generate_key())._far
    assert not (MemoryStore() / "logs")._far


texts = st.text(st.sampled_from("ab/é\U0010ffff\ud7ff\ue000z"), max_size=6)


@given(st.sets(texts, max_size=300), st.integers(1, 9), texts, st.none() | texts)
def test_points_are_few_and_in_order(found: set[str], n: int, after: str, until: str | None) -> None:
    keys = sorted(key for key in found if key > after and (until is None or key <= until))
    for points in (
        sample_points(keys, n),
        guess_points(lambda after: [key for key in keys if key > after][:PAGE], n, Span("", after, until)),
    ):
        assert points == sorted(set(points))
        assert len(points) < n
        spans = spans_between(Span("", after, until), points)
        assert all(sum(span.covers(key) for span in spans) == 1 for key in keys)
