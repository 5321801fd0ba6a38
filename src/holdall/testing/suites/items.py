"""Items of `put_many` that have attributes of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdall.errors import InvalidArgumentError, InvalidDataError, UnsupportedOperation
from holdall.store import Can, Item, Store
from holdall.testing.refusals import needs
from holdall.testing.samples import MIB, make_noise, read_all
from holdall.testing.suites.base import SuiteBase

_NEAR = timedelta(seconds=30)
"""A server counts by its own clock."""


class ItemTests(SuiteBase):
    """Items of `put_many` that have attributes of their own."""

    def test_items_of_put_many_have_their_own_attributes(self, store: Store, other: Store) -> None:
        until = datetime.now(UTC) + timedelta(hours=1)
        own: dict[str, dict[str, Any]] = {"plain": {}, "large": {}}
        if Can.EXPIRE in store.can:
            own |= {"large": {"expires": until}, "short": {"ttl": 60}, "until": {"expires": until}}
        if Can.ATTRIBUTES in store.can:
            own |= {"page": {"content_type": "text/html"}, "image": {"content_type": "image/png"}}
        if Can.METADATA in store.can:
            own["owned"] = {"metadata": {"owner": "ana"}}
        data = {key: make_noise(5 * MIB) if key == "large" else key.encode() for key in own}
        usual = store.put("plain", b"old")
        put = store.put_many({key: Item(data[key], **given) for key, given in own.items()})
        assert read_all(other) == data
        for key, given in own.items():
            info = other.info(key)
            assert put[key] == info
            assert info.content_type == given.get("content_type", usual.content_type)
            assert dict(info.metadata) == given.get("metadata", {})
            if given.keys() & {"ttl", "expires"}:
                moment = given.get("expires", until - timedelta(minutes=59))
                assert info.expires is not None
                assert abs(info.expires - moment) < _NEAR

    @needs(Can.EXPIRE)
    def test_an_item_has_the_ttl_of_the_call_if_it_gives_none(self, store: Store, other: Store) -> None:
        store.put_many({"a": b"1", "b": Item(b"2", ttl=60), "c": Item([b"3"])})
        store.put_many([("a", Item(b"1", ttl=60)), ("b", b"2"), ("c", Item([b"3"]))], ttl=86400)
        now = datetime.now(UTC)
        for info, seconds in zip(other.list(), (60, 86400, 86400), strict=True):
            assert info.expires is not None
            assert abs(info.expires - now - timedelta(seconds=seconds)) < _NEAR
        usual = store.put("c", b"").expires
        put = store.put_many({"a": b"1", "b": Item(b"2", ttl=60)})
        assert other.info("b").expires is not None
        assert put["a"] == other.info("a")
        assert (put["a"].expires is None) == (usual is None)

    def test_a_bad_item_is_refused_before_anything_is_touched(self, store: Store, other: Store) -> None:
        store["plain"] = b"old"
        wrong: Any = store
        own: Any = Item
        bad = [own("text"), own(own(b"")), own(None), own(b"", ttl=0), own(b"", content_type=5)]
        bad += [own(b"", ttl=1, expires=datetime(2999, 1, 1, tzinfo=UTC)), own(b"", metadata={"owner": 5})]
        for item in bad:
            for call in (wrong.put_many, wrong.update):
                with pytest.raises((InvalidArgumentError, InvalidDataError)) as caught:
                    call({"plain": b"new", "bad": item})
                assert caught.value.key == "bad"
        for call in (lambda: wrong.put("plain", own(b"")), lambda: wrong.update(plain=b"", bad=[own(b"")])):
            with pytest.raises(InvalidDataError):
                call()
        for flag, item in (
            (Can.EXPIRE, Item(b"", ttl=60)),
            (Can.ATTRIBUTES, Item(b"", content_type="text/html")),
            (Can.METADATA, Item(b"", metadata={"owner": "ana"})),
        ):
            if flag not in store.can:
                with pytest.raises(UnsupportedOperation):
                    store.put_many({"plain": b"new", "bad": item})
        assert read_all(other) == {"plain": b"old"}
