"""What is put comes back, whatever kind of data it was."""

from __future__ import annotations

import array
import io
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import InvalidDataError, StoreUnavailableError
from holdall.store import Store
from holdall.testing.running import run_within
from holdall.testing.samples import (
    MIB,
    BodyError,
    fail_after,
    give_once,
    hash_bytes,
    key_of,
    make_noise,
    read_all,
)
from holdall.testing.suites.base import SuiteBase
from holdall.values.mapping import read_whole


class BodyTests(SuiteBase):
    """What is put comes back, whatever kind of data it was."""

    def test_every_kind_of_data(self, store: Store, other: Store) -> None:
        numbers = array.array("i", range(100))
        table = memoryview(bytes(range(24))).cast("B", (4, 6))
        with tempfile.TemporaryFile() as file:
            file.write(b"skipped, stored")
            file.seek(9)
            kinds: list[tuple[Any, bytes]] = [
                (b"bytes", b"bytes"),
                (bytearray(b"bytearray"), b"bytearray"),
                (memoryview(b"view"), b"view"),
                (memoryview(b"0123456789")[::2], b"02468"),
                (memoryview(b"0123456789")[::-1], b"9876543210"),
                (memoryview(bytearray(b"0123456789"))[2:5], b"234"),
                (numbers, numbers.tobytes()),
                (memoryview(numbers), numbers.tobytes()),
                (memoryview(numbers)[::3], numbers[::3].tobytes()),
                (table, bytes(range(24))),
                (array.array("d"), b""),
                (io.BytesIO(b"a file"), b"a file"),
                (file, b"stored"),
                (give_once(b"one", b"", b"two"), b"onetwo"),
                ([b"a", bytearray(b"b"), memoryview(b"c"), numbers], b"abc" + numbers.tobytes()),
                ((b"tu", b"ple"), b"tuple"),
                (map(bytes, [[1], [2]]), b"\x01\x02"),
                (iter([memoryview(b"0123456789")[::3]]), b"0369"),
            ]
            for number, (data, expected) in enumerate(kinds):
                info = store.put(f"kind/{number}", data)
                assert info.size == len(expected)
                assert other[f"kind/{number}"] == expected
                assert other.info(f"kind/{number}") == info
        assert store.put_many((f"kind/{number}", kinds[number][0]) for number in range(11)).keys() == {
            f"kind/{number}" for number in range(11)
        }
        for number in range(11):
            assert other[f"kind/{number}"] == kinds[number][1]

    def test_a_large_blob(self, store: Store, other: Store) -> None:
        data = make_noise(self._effort(20, 12, 12) * MIB)
        assert store.put("large", data).size == len(data)
        assert other["large"] == data
        other.put("large", io.BytesIO(data[1:]))
        assert store["large"] == data[1:]
        other.put("large", (data[at : at + 1_234_567] for at in range(0, len(data), 1_234_567)))
        assert hash_bytes(store["large"]) == hash_bytes(data)
        other.put("large", iter([data]))
        assert hash_bytes(store["large"]) == hash_bytes(data)

    def test_sizes_around_the_limits_of_a_medium(self, store: Store, other: Store) -> None:
        sizes = {(1 << power) + by for power in (8, 10, 12, 14, 16, 17, 18, 20, 21) for by in (-1, 0, 1)}
        for size in sorted({0, 1, 2, *sizes}):
            data = make_noise(size)
            store.put(f"size/{size}", data)
            assert other[f"size/{size}"] == data
            other.put(f"size/{size}", (data[at : at + 65_537] for at in range(0, size, 65_537)))
            assert store[f"size/{size}"] == data
            assert store.info(f"size/{size}").size == size
        store["one"] = b""
        for size in (1 << 20, 10, 1 << 16, 0, 3 << 20, 1):
            store["one"] = make_noise(size)
            assert other["one"] == make_noise(size)

    def test_the_callers_buffer_is_copied(self, store: Store) -> None:
        buffer, large = bytearray(b"before"), bytearray(make_noise(3 * MIB))
        kept = bytes(large)
        store.put("buffer", buffer)
        store.put("view", memoryview(buffer))
        store.put("list", [buffer])
        store.put("pieces", iter([buffer, memoryview(buffer)]))
        store.put("large", large)
        store.put_many({"many": buffer})
        assert store.setdefault("default", buffer) == b"before"
        with store.open("file", "wb") as file:
            file.write(buffer)
            buffer[:] = b"during"
        buffer[:] = b"later!"
        large[:] = bytes(len(large))
        for key in ("buffer", "view", "list", "many", "default", "file"):
            assert store[key] == b"before", key
        assert store["pieces"] == b"beforebefore"
        assert store["large"] == kept

    def test_a_buffer_that_is_used_again_for_each_piece(self, store: Store) -> None:
        def pieces() -> Iterator[memoryview]:
            buffer = bytearray(100_000)
            for number in range(30):
                buffer[:] = bytes([number]) * len(buffer)
                yield memoryview(buffer)[: 100_000 - number]

        store.put("reused", pieces())
        expected = b"".join(bytes([number]) * (100_000 - number) for number in range(30))
        assert hash_bytes(store["reused"]) == hash_bytes(expected)

    def test_what_is_no_bytes_is_refused(self, store: Store, place: Path) -> None:
        wrong: Any = store
        store["key"] = b"before"
        text = place.parent / "text"
        text.write_text("text")
        large = make_noise(9 * MIB)
        with text.open() as file:
            plain: list[Any] = ["text", {"a": b"1"}, 1, 1.5, None, True, object(), file]
            plain += [[b"good", "text"], [1, 2], [None], [[b"nested"]], [b"", 0]]
            kinds: list[Callable[[], Any]] = [
                *(lambda data=data: data for data in plain),
                lambda: io.StringIO("text"),
                lambda: iter(["text"]),
                lambda: give_once(b"good", "text"),
                lambda: give_once(large, "text"),
            ]
            for kind in kinds:
                for call, key in (
                    *((wrong.put, key) for key in ("key", "absent")),
                    *((wrong.__setitem__, key) for key in ("key", "absent")),
                    (wrong.setdefault, "absent"),
                ):
                    with pytest.raises(InvalidDataError):
                        call(key, kind())
                    assert read_all(store) == {"key": b"before"}

    def test_a_body_that_fails_leaves_the_old_blob(self, store: Store, other: Store) -> None:
        store["key"] = b"before"
        info = store.info("key")
        for pieces in ([], [b"new"], [b"new"] * 10, [make_noise(200_000)] * 3, [make_noise(MIB)] * 10):
            for key in ("key", "absent", "a/b/absent"):
                with pytest.raises(BodyError):
                    store.put(key, fail_after(*pieces))
                with pytest.raises(StoreUnavailableError) as caught:
                    store.put(key, fail_after(*pieces, error=StoreUnavailableError("elsewhere", key="its")))
                assert caught.value.key == "its"
                assert other.info("key") == info
                assert read_all(other) == {"key": b"before"}
                assert [key_of(child) for child in other.children()] == ["key"]
        with pytest.raises(BodyError):
            store.put_many({"key": fail_after(b"new")})
        lost = ConnectionResetError("the connection that the body reads from")
        with pytest.raises(ConnectionResetError) as raised:
            store.put("key", fail_after(b"new", error=lost))
        assert raised.value is lost
        assert other["key"] == b"before"
        store["key"] = b"after"
        assert other["key"] == b"after"

    def test_a_body_may_use_the_store(self, store: Store) -> None:
        store["source"] = make_noise(3 * MIB)

        def body() -> Iterator[bytes]:
            for chunk in store.chunks("source", 500_000):
                assert store["source"][:10] == chunk[:0] + make_noise(3 * MIB)[:10]
                yield chunk

        run_within(lambda: store.put("target", body()))
        assert store["target"] == store["source"]
        run_within(lambda: store.put("source", store.chunks("source")))
        assert store["source"] == store["target"]

    def test_info_tells_what_was_written(self, store: Store, other: Store) -> None:
        begun = datetime.now(UTC)
        put = store.put("key", b"four")
        assert (put.key, put.size, put.content_type) == ("key", 4, None)
        assert (put.expires is not None) is self.expires
        assert isinstance(put.etag, str)
        assert put.etag
        assert put.modified.utcoffset() == timedelta(0)
        assert abs(put.modified - begun) < timedelta(seconds=30)
        assert store.info("key") == other.info("key") == put
        assert list(store.list()) == list(other.list()) == [put]
        assert list(store.children()) == [put]
        assert read_whole(other, "key") == (put, b"four")
        with store.open("file", "wb") as file:
            file.write(b"content")
        assert store.info("file").size == 7
        assert store.put_many({"many": b"12345"}) == {"many": other.info("many")}
        assert store.copy("key", "copied") == other.info("copied")
        assert store.move("key", "moved") == other.info("moved")
