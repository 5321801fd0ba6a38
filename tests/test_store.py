"""What the base class does for every store: its face in a repr, its secrets, what it hands out."""

import copy
import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from holdall import (
    FilesystemStore,
    Info,
    InvalidArgumentError,
    InvalidDataError,
    MemoryStore,
    SqliteStore,
    Store,
    UnsupportedOperation,
)
from holdall.testing import Counting, Slow


class Remote(MemoryStore):
    """A store with a password."""

    _secrets = frozenset({"password"})

    def __init__(self, host: str, *, password: str | None = None, below: Store | None = None) -> None:
        super().__init__()
        self._given = {"host": host, "password": password, "below": below}

    def _settings(self) -> dict[str, object]:
        return dict(self._given)


def test_a_repr_prints_the_stack_and_no_secret(tmp_path: Path) -> None:
    inner = Remote("here", password="hunter2")
    stack = Counting(Slow(Remote("there", password="swordfish", below=inner), 0.0))
    text = repr(stack)
    assert "swordfish" not in text
    assert "hunter2" not in text
    assert text.startswith(
        "Counting(Slow(Remote('there', password='***', below=Remote('here', password='***'))"
    )
    assert repr(Remote("here")) == "Remote('here')"
    assert repr(FilesystemStore(tmp_path, durable=True)) == f"FilesystemStore('{tmp_path}', durable=True)"
    assert repr(FilesystemStore(tmp_path).aio) == f"AsyncStore(FilesystemStore('{tmp_path}'))"


def test_a_store_without_settings_can_be_shown_but_not_pickled() -> None:
    class Bare(Store):
        """Nothing at all."""

    assert repr(Bare()) == "Bare(...)"
    with pytest.raises(UnsupportedOperation, match="a Bare has no settings"):
        pickle.dumps(Bare())


def test_what_it_can_not_do_is_said_with_the_right_article() -> None:
    class Archive(Store):
        """Reads only."""

    with pytest.raises(UnsupportedOperation, match="'a': an Archive can't put"):
        Archive().put("a", b"")


def test_a_store_may_be_on_a_full_path_of_any_kind(tmp_path: Path) -> None:
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        store = FilesystemStore("relative")
        store["a"] = b"1"
    finally:
        os.chdir(before)
    # A store is a place: it stays where it was opened.
    assert store["a"] == b"1"
    assert pickle.loads(pickle.dumps(store))["a"] == b"1"


def test_info_is_frozen_and_equal_by_what_it_tells() -> None:
    when = datetime(2026, 11, 21, 12, 0, 0, 500_000, tzinfo=UTC)
    info = Info("a", 1, 0xBEEF, when.timestamp(), "text/plain", when.timestamp())
    assert (info.etag, info.modified, info.expires) == ("beef", when, when)
    assert info == Info("a", 1, "beef", when, "text/plain", when)
    assert hash(info) == hash(Info("a", 1, "beef", when, "text/plain", when))
    assert info != Info("a", 2, "beef", when, "text/plain", when)
    assert info != ("a", 1, "beef", when, "text/plain", when)
    assert pickle.loads(pickle.dumps(info)) == copy.copy(info) == info
    assert info.replace(key="b", size=2) == Info("b", 2, "beef", when, "text/plain", when)
    elsewhere = Info("a", 1, "e", when.astimezone(timezone(timedelta(hours=5))))
    assert elsewhere.modified.tzinfo is UTC
    assert eval(repr(info), {"Info": Info, "datetime": __import__("datetime")}) == info
    for name in ("key", "size", "etag", "modified", "content_type", "expires"):
        with pytest.raises(AttributeError):
            setattr(info, name, None)
    with pytest.raises(AttributeError):
        info.other = 1  # type: ignore[attr-defined]


def test_an_error_names_its_key_wherever_it_comes_from() -> None:
    store = MemoryStore()

    def failing() -> Iterator[bytes]:
        yield b"a"
        yield "text"  # type: ignore[misc]

    for call in (
        lambda: store.put("the/key", "text"),  # type: ignore[arg-type]
        lambda: store.put("the/key", failing()),
        lambda: store.put_many({"other": b"", "the/key": 5}),  # type: ignore[dict-item]
        lambda: store.modify("the/key", lambda old: 5, b""),  # type: ignore[arg-type,return-value]
    ):
        with pytest.raises(InvalidDataError) as caught:
            call()
        assert caught.value.key == "the/key"
        assert str(caught.value).startswith("'the/key': ")
    assert list(store) == []


@pytest.mark.parametrize(
    "wrong", [5, None, "text", b"bytes", [b"a"], ["ab"], [("a",)], [("a", b"", 1)], {"a"}]
)
def test_what_is_no_pairs_is_refused(wrong: object, tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "x.db") as sqlite:
        for store in (MemoryStore(), FilesystemStore(tmp_path / "files"), sqlite):
            store["kept"] = b""
            for call in (store.put_many, store.update):
                with pytest.raises(InvalidArgumentError, match="pairs of key and data"):
                    call(wrong)  # type: ignore[operator]
            assert list(store.iterate_keys()) == ["kept"]
