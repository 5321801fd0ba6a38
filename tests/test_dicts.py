"""What users of blob dicts rely on."""

from __future__ import annotations

import io
import logging
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel
from tests.servers.valkey import ValkeyServer
from upath import UPath

from holdall.blobs import (
    AudioBlob,
    BytesBlob,
    ImageBlob,
    JsonDictBlob,
    JsonModelBlob,
    StrBlob,
    VideoBlob,
    YamlDictBlob,
)
from holdall.dicts import (
    BlobDict,
    GitBlobDict,
    InMemoryBlobDict,
    LocalPath,
    MultiReplicaBlobDict,
    PathBlobDict,
    ValkeyBlobDict,
    VulkeyBlobDict,
)
from holdall.errors import (
    BlobNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    InvalidDataError,
    InvalidKeyError,
    PartialWriteError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from holdall.layers.prefix import PrefixStore
from holdall.store import Can, Item
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.memory import MemoryStore
from holdall.stores.path import PathStore
from holdall.stores.sqlite import SqliteStore
from holdall.testing import Counting, Limited, race


def replicas(folder: Path) -> MultiReplicaBlobDict:
    return MultiReplicaBlobDict({"cache": InMemoryBlobDict(), "origin": PathBlobDict(folder / "origin")})


KINDS: dict[str, Callable[[Path], BlobDict]] = {
    "memory": lambda folder: InMemoryBlobDict(),
    "memory, ttl": lambda folder: InMemoryBlobDict(ttl=3600),
    "folder": PathBlobDict,
    "folder, ttl": lambda folder: PathBlobDict(folder, ttl=timedelta(days=1)),
    "folder, compressed": lambda folder: PathBlobDict(LocalPath(folder), compression=True),
    "UPath": lambda folder: PathBlobDict(UPath(f"memory://{folder}")),
    "local UPath": lambda folder: PathBlobDict(UPath(folder)),
    "SQLite": lambda folder: BlobDict(SqliteStore(folder / "blobs.db")),
    "part of a store": lambda folder: BlobDict(PrefixStore(MemoryStore({"other": b""}), "blobs")),
    "replicas": replicas,
    "git": lambda folder: GitBlobDict(folder / "work", user_name="Ada", user_email="ada@example.org"),
}


@pytest.fixture(params=KINDS)
def d(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobDict]:
    with KINDS[request.param](tmp_path) as made:
        yield made
        made.store.close()


def test_the_eight_calls(d: BlobDict) -> None:
    assert len(d) == 0
    assert not d
    d["a.txt"] = StrBlob("one")
    d["b/c.bin"] = BytesBlob(b"\0two")
    d["empty"] = BytesBlob(b"")
    assert len(d) == 3
    assert d
    assert "a.txt" in d
    assert "b" not in d
    assert list(d) == ["a.txt", "b/c.bin", "empty"]
    assert d["a.txt"].as_bytes() == b"one"
    assert type(d["a.txt"]) is StrBlob
    assert d.get("b/c.bin") == BytesBlob(b"\0two")
    assert d.get("z") is None
    assert d.get("z", 5) == 5
    assert d.get("z", default="x") == "x"
    assert d.get("empty", "default") == BytesBlob(b"")
    assert d.pop("empty") == BytesBlob(b"")
    assert d.pop("empty", None) is None
    assert d.pop("empty", default=3) == 3
    del d["a.txt"]
    assert list(d) == ["b/c.bin"]
    d["b/c.bin"] = BytesBlob(b"three")
    assert d["b/c.bin"] == BytesBlob(b"three")


def test_an_absent_key(d: BlobDict) -> None:
    calls: list[Callable[[], object]] = [
        lambda: d["a"],
        lambda: d.__delitem__("a"),
        lambda: d.pop("a"),
        d.popitem,
    ]
    for call in calls:
        with pytest.raises(KeyError) as caught:
            call()
        assert isinstance(caught.value, BlobNotFoundError)
    assert not d


def test_what_is_no_key(d: BlobDict) -> None:
    for bad in ("../a", "a//b", "", "/a"):
        for call in (d.get, d.__getitem__, d.__delitem__, d.pop):
            with pytest.raises(InvalidKeyError):
                call(bad)  # type: ignore[operator]
        assert bad not in d
        assert (bad, BytesBlob(b"")) not in d.items()
        with pytest.raises(InvalidKeyError):
            d[bad] = BytesBlob(b"")
    assert not d


def test_the_rest_of_a_mutable_mapping(d: BlobDict) -> None:
    d.update({"a": BytesBlob(b"1"), "b.txt": StrBlob("2")}, c=BytesBlob(b"3"))
    d.update([("d", BytesBlob(b"4"))])
    assert {key: blob.as_bytes() for key, blob in d.items()} == {
        "a": b"1",
        "b.txt": b"2",
        "c": b"3",
        "d": b"4",
    }
    assert [blob.as_bytes() for blob in d.values()] == [b"1", b"2", b"3", b"4"]
    assert list(d.keys()) == ["a", "b.txt", "c", "d"]
    assert d.setdefault("a", BytesBlob(b"other")) == BytesBlob(b"1")
    assert d.setdefault("e", BytesBlob(b"5")) == d["e"] == BytesBlob(b"5")
    assert d.popitem() == ("a", BytesBlob(b"1"))
    assert BytesBlob(b"3") in d.values()
    d.clear()
    assert list(d) == []


def test_only_blobs_are_put(d: BlobDict) -> None:
    wrong: Any = d
    for value in (b"bytes", "text", {"a": 1}, None, io.BytesIO(b"")):
        calls: list[Callable[[], object]] = [
            lambda value=value: wrong.__setitem__("a", value),
            lambda value=value: wrong.setdefault("a", value),
            lambda value=value: wrong.update({"ok": BytesBlob(b""), "a": value}),
        ]
        for call in calls:
            with pytest.raises(TypeError) as caught:
                call()
            assert isinstance(caught.value, InvalidDataError)
    assert not d


def test_an_update_with_one_bad_key_puts_nothing(d: BlobDict) -> None:
    """Each media type is a call of its own, and all keys are checked before the first."""
    for bad in ("../b", "", 5):
        blobs: Any = {"a": StrBlob("x"), bad: JsonDictBlob({}), "c": BytesBlob(b"")}
        with pytest.raises(InvalidKeyError):
            d.update(blobs)
        assert list(d) == []


def test_equality_is_identity(d: BlobDict) -> None:
    assert d == d
    assert d != InMemoryBlobDict()
    assert len({d, d}) == 1


def test_search_is_by_glob(d: BlobDict) -> None:
    d.update({key: BytesBlob(b"") for key in ("a.txt", "b/c.txt", "b/d.png", "b/e/f.txt")})
    assert list(d.search()) == list(d)
    assert list(d.search("*.txt")) == ["a.txt"]
    assert list(d.search("**/*.txt")) == ["a.txt", "b/c.txt", "b/e/f.txt"]
    assert list(d.search("b/*")) == ["b/c.txt", "b/d.png"]


PROGRAM = """
def use(d, BytesBlob, StrBlob):
    assert len(d) == 0
    d["a.txt"] = StrBlob("one")
    d["folder/b.bin"] = BytesBlob(b"two")
    assert len(d) == 2
    assert "a.txt" in d and "folder/b.bin" in d and "c" not in d
    assert d.get("a.txt", None).as_bytes() == b"one"
    assert d.get("c") is None and d.get("c", default=5) == 5
    assert d["folder/b.bin"].as_bytes() == b"two"
    assert sorted(key for key in d) == ["a.txt", "folder/b.bin"]
    assert d.pop("a.txt", None).as_bytes() == b"one" and d.pop("a.txt", 7) == 7
    for call in (lambda: d["a.txt"], lambda: d.pop("a.txt"), lambda: d.__delitem__("a.txt")):
        try:
            call()
        except KeyError:
            continue
        raise AssertionError
    del d["folder/b.bin"]
    assert not list(d)
"""


def test_a_program_for_blob_dict_needs_another_import_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ValkeyServer() as server:
        made = f"""
from datetime import timedelta
from pathlib import Path
from holdall import BytesBlob, StrBlob
from holdall import GitBlobDict, InMemoryBlobDict, LocalPath, MultiReplicaBlobDict, PathBlobDict
from holdall import ValkeyBlobDict, VulkeyBlobDict

use(InMemoryBlobDict(), BytesBlob, StrBlob)
use(InMemoryBlobDict(ttl=timedelta(hours=1)), BytesBlob, StrBlob)
use(PathBlobDict(Path("plain")), BytesBlob, StrBlob)
path = PathBlobDict(LocalPath("local"), compression=True, ttl=timedelta(days=1), blob_class=BytesBlob)
path.create()
use(path, BytesBlob, StrBlob)
path.delete()
git = GitBlobDict(LocalPath("git"), user_name="Ada", user_email="ada@example.org")
git.create()
use(git, BytesBlob, StrBlob)
git["a"] = BytesBlob(b"1")
git["a"] = BytesBlob(b"2")
assert (git["a", "HEAD~1"], git["a", 0], git["a", -1]) == (b"1", b"1", b"2")
server = dict(host="127.0.0.1", port={server.port})
use(ValkeyBlobDict(ttl=timedelta(hours=1), client_kwargs=server), BytesBlob, StrBlob)
use(VulkeyBlobDict(client_kwargs=server), BytesBlob, StrBlob)
replicas = MultiReplicaBlobDict({{"cache": InMemoryBlobDict(), "origin": PathBlobDict(LocalPath("origin"))}})
use(replicas, BytesBlob, StrBlob)
"""
        exec(PROGRAM + made, {})


def test_the_hierarchy_of_blobs() -> None:
    below = {
        BytesBlob: {StrBlob, JsonDictBlob, JsonModelBlob, YamlDictBlob, AudioBlob, ImageBlob, VideoBlob},
        StrBlob: {JsonDictBlob, JsonModelBlob, YamlDictBlob},
    }
    kinds = below[BytesBlob] | {BytesBlob}
    for kind in kinds:
        assert {each for each in kinds if issubclass(each, kind)} == {kind} | below.get(kind, set())


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a.json", JsonDictBlob),
        ("a.yaml", YamlDictBlob),
        ("a.yml", YamlDictBlob),
        ("a.txt", StrBlob),
        ("a.csv", StrBlob),
        ("a.html", StrBlob),
        ("a.md", StrBlob),
        ("a.png", ImageBlob),
        ("a.jpg", ImageBlob),
        ("a.webp", ImageBlob),
        ("a.wav", AudioBlob),
        ("a.mp3", AudioBlob),
        ("a.flac", AudioBlob),
        ("a.mp4", VideoBlob),
        ("a.webm", VideoBlob),
        ("folder.png/a", BytesBlob),
        ("a", BytesBlob),
        ("a.bin", BytesBlob),
        ("A.PNG", ImageBlob),
    ],
)
@pytest.mark.parametrize("make", [PathBlobDict, lambda folder: InMemoryBlobDict()])
def test_the_class_comes_from_the_media_type_of_the_key(
    tmp_path: Path, make: Callable[[Path], BlobDict], key: str, kind: type[BytesBlob]
) -> None:
    with make(tmp_path) as d:
        d[key] = BytesBlob(b"any")
        assert type(d[key]) is kind
        assert [type(blob) for blob in d.values()] == [kind]
        assert type(d.pop(key)) is kind


def test_memory_keeps_what_was_put() -> None:
    d = InMemoryBlobDict()
    d["greeting"] = StrBlob("hello")
    d.update({"settings": JsonDictBlob({"a": 1}), "raw": BytesBlob(b"")})
    d.setdefault("more", YamlDictBlob({"b": 2}))
    assert type(d["greeting"]) is StrBlob
    assert type(d["settings"]) is JsonDictBlob
    assert type(d["raw"]) is BytesBlob
    assert type(d.pop("more")) is YamlDictBlob


def test_a_blob_class(tmp_path: Path) -> None:
    d = PathBlobDict(tmp_path, blob_class=StrBlob)
    d["a"] = StrBlob("text")
    d["b.json"] = JsonDictBlob({"x": 1})
    d["c.png"] = StrBlob("no picture")
    assert [type(blob) for blob in d.values()] == [StrBlob, JsonDictBlob, StrBlob]
    with pytest.raises(TypeError, match="takes StrBlob, not BytesBlob"):
        d["d"] = BytesBlob(b"")
    assert "d" not in d


class Point(BaseModel):
    x: int
    y: int = 0


def test_models(tmp_path: Path) -> None:
    d = PathBlobDict(tmp_path, blob_class=JsonModelBlob, blob_class_args={"model_class": Point})
    d["p.json"] = JsonModelBlob(Point(x=1))
    found = d["p.json"]
    assert isinstance(found, JsonModelBlob)
    assert found.as_model() == Point(x=1)


def test_wrong_arguments(tmp_path: Path) -> None:
    wrong: Any = BlobDict
    for call in (
        lambda: wrong({}),
        lambda: wrong(MemoryStore(), blob_class=bytes),
        lambda: wrong(MemoryStore(), ttl=0),
        lambda: wrong(MemoryStore(), compression="rar"),
        lambda: PathBlobDict(5),
        lambda: PathBlobDict("s3://bucket/folder"),
        lambda: MultiReplicaBlobDict({}),
        lambda: MultiReplicaBlobDict({"a": MemoryStore()}),  # type: ignore[dict-item]
    ):
        with pytest.raises(InvalidArgumentError):
            call()


def test_a_folder_is_plain_files(tmp_path: Path) -> None:
    d = PathBlobDict(str(tmp_path))
    d["notes/a.txt"] = StrBlob("hello")
    assert (tmp_path / "notes" / "a.txt").read_text() == "hello"
    (tmp_path / "b.json").write_text('{"x": 1}')
    assert d["b.json"] == BytesBlob(b'{"x": 1}')
    del d["notes/a.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json"]


def test_the_current_folder_and_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PathBlobDict()["a"] = BytesBlob(b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    d = PathBlobDict("~/blobs")
    d.create()
    assert (tmp_path / "home" / "blobs").is_dir()


@pytest.mark.parametrize("kind", [Path, LocalPath, str, UPath, lambda path: UPath(f"memory://{path}")])
def test_create_and_delete(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    path = kind(tmp_path / "new" / "folder")
    d = PathBlobDict(path)
    d.create()
    d.create()
    assert UPath(path).is_dir()
    d["a/b"] = BytesBlob(b"1")
    d.delete()
    assert not UPath(path).exists()
    assert len(d) == 0
    d.delete()
    d["a"] = BytesBlob(b"2")
    assert d["a"] == BytesBlob(b"2")


def test_a_folder_that_is_a_link_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    d = PathBlobDict(tmp_path / "link")
    with pytest.raises(StoreUnavailableError, match="can't be deleted"):
        d.delete()
    assert d["a"] == BytesBlob(b"1")


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    d = PathBlobDict(tmp_path / "in" / "folder")
    (tmp_path / "in").write_text("a file")
    with pytest.raises(StoreUnavailableError, match="can't be made"):
        d.create()


def test_a_closed_dict_makes_and_deletes_no_folder(tmp_path: Path) -> None:
    with PathBlobDict(tmp_path / "a") as d:
        d.create()
    for call in (d.create, d.delete):
        with pytest.raises(StoreUnavailableError, match="closed"):
            call()
    assert (tmp_path / "a").is_dir()


def test_a_medium_that_is_only_read_keeps_its_folder(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a", b"1")
    d = PathBlobDict(UPath("zip://in/deep", fo=str(tmp_path / "x.zip")))
    for call in (d.create, d.delete):
        with pytest.raises(ReadOnlyError):
            call()


def test_no_root_is_deleted() -> None:
    with pytest.raises(InvalidArgumentError, match="whole file system"):
        PathBlobDict("/").delete()


def test_local_path(tmp_path: Path) -> None:
    path = LocalPath(tmp_path) / "a"
    assert isinstance(path, Path)
    assert type(path) is LocalPath
    (path / "b").mkdir(parents=True)
    (path / "b" / "c").write_text("x")
    path.rmtree()
    assert not path.exists()


def test_compressed_blobs_are_small_on_disk(tmp_path: Path) -> None:
    d = PathBlobDict(tmp_path, compression="gzip")
    d["a.txt"] = StrBlob("again and " * 10_000)
    assert (tmp_path / "a.txt").stat().st_size < 1000
    assert d["a.txt"] == BytesBlob(b"again and " * 10_000)
    (tmp_path / "b.txt").write_text("put without")
    with pytest.raises(IntegrityError):
        d["b.txt"]


def test_a_file_expires_by_its_age(tmp_path: Path) -> None:
    import os
    import time

    d = PathBlobDict(tmp_path, ttl=timedelta(hours=1))
    plain = PathBlobDict(tmp_path)
    d.update({"old.txt": StrBlob("old"), "new.txt": StrBlob("new")})
    hours = time.time() - 3601
    os.utime(tmp_path / "old.txt", (hours, hours))
    assert list(d) == list(d.keys()) == list(d.search()) == ["new.txt"]
    assert len(d) == len(d.values()) == 1
    assert "old.txt" not in d
    assert d.get("old.txt") is None
    assert d.pop("old.txt", None) is None
    for call in (d.__getitem__, d.__delitem__):
        with pytest.raises(KeyError):
            call("old.txt")
    # Without a ttl a file never expires.
    hours -= 10**9
    os.utime(tmp_path / "new.txt", (hours, hours))
    assert plain["new.txt"] == BytesBlob(b"new")
    d["new.txt"] = StrBlob("renewed")
    assert list(d) == ["new.txt"]


@pytest.mark.parametrize("compression", [False, True])
def test_a_purge_deletes_what_has_expired(tmp_path: Path, compression: bool) -> None:
    import os

    d = PathBlobDict(tmp_path, ttl=60, compression=compression)
    d.update({"old": BytesBlob(b"1"), "new": BytesBlob(b"2")})
    os.utime(tmp_path / "old", (0, 0))
    assert (d.purge(), d.purge()) == (1, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert PathBlobDict(tmp_path).purge() == 0
    assert InMemoryBlobDict(ttl=60).purge() == 0


def test_memory_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    d = InMemoryBlobDict(ttl=100)
    d["a"] = BytesBlob(b"1")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 99)
    assert len(d) == 1
    monkeypatch.setattr(time, "time", lambda: now + 101)
    assert (len(d), list(d), d.get("a"), "a" in d, d.pop("a", 5)) == (0, [], None, False, 5)


def test_of_many_who_pop_one_gets_it() -> None:
    for make in (InMemoryBlobDict, lambda: BlobDict(Limited(MemoryStore(), ~Can.ATTRIBUTES))):
        d = make()
        for number in range(50):
            d["a.txt"] = StrBlob(str(number))
            got: list[object] = []
            race(*[lambda: got.append(d.pop("a.txt", None))] * 4)  # noqa: B023
            assert sorted(got, key=lambda blob: blob is None) == [StrBlob(str(number)), None, None, None]


def test_setdefault_gives_everyone_the_same(tmp_path: Path) -> None:
    for d in (InMemoryBlobDict(), PathBlobDict(tmp_path)):
        for number in range(20):
            values: list[BytesBlob] = []

            def default(name: int) -> None:
                values.append(d.setdefault(f"k{number}", BytesBlob(b"%d" % name)))  # noqa: B023

            race(*[lambda name=name: default(name) for name in range(4)])
            assert values == [d[f"k{number}"]] * 4


def test_a_blob_that_goes_while_it_is_listed_is_left_out() -> None:
    d = InMemoryBlobDict({key: BytesBlob(key.encode()) for key in "abc"})
    seen = []
    for key, blob in d.items():
        seen.append((key, blob.as_bytes()))
        d.pop("b", None)
    assert seen == [("a", b"a"), ("c", b"c")]


def test_update_is_one_call_of_the_store(tmp_path: Path) -> None:
    class Once(MemoryStore):
        puts = 0

        def put_many(self, *items: Any, **options: Any) -> Any:
            self.puts += 1
            return super().put_many(*items, **options)

    store = Once()
    BlobDict(store).update({str(number): BytesBlob(b"") for number in range(100)})
    assert (store.puts, len(store)) == (1, 100)
    short = Item(JsonDictBlob({}), ttl=60)
    BlobDict(store).update({"a": StrBlob("x"), "b": short, "c": BytesBlob(b"")})
    assert (store.puts, len(store)) == (2, 103)
    assert BlobDict(store)["b"] == JsonDictBlob({})
    assert store.info("b").expires is not None
    with pytest.raises(InvalidArgumentError, match="leave it out"):
        BlobDict(store).update({"a": StrBlob("new"), "b": Item(StrBlob(""), content_type="text/html")})
    assert BlobDict(store)["a"] == StrBlob("x")


def test_a_dict_goes_to_another_process(tmp_path: Path) -> None:
    d = PathBlobDict(tmp_path, compression=True, blob_class=StrBlob)
    d["a"] = StrBlob("text")
    with pickle.loads(pickle.dumps(d)) as again:
        assert again["a"] == StrBlob("text")
        assert type(again["a"]) is StrBlob


def test_the_repr_says_where(tmp_path: Path) -> None:
    assert repr(PathBlobDict(tmp_path)) == f"PathBlobDict(FilesystemStore({str(tmp_path)!r}))"


def test_a_store_that_was_given_stays_open() -> None:
    store = MemoryStore()
    with BlobDict(store) as d:
        d["a"] = BytesBlob(b"1")
    assert store["a"] == b"1"
    with PathBlobDict("x") as path:
        pass
    with pytest.raises(StoreUnavailableError):
        path.get("a")


class Broken(Counting):
    """A store that is away when told so."""

    away = False

    def _count(self, call: str) -> None:
        if self.away:
            raise StoreUnavailableError("away")
        super()._count(call)


@pytest.fixture
def cache() -> InMemoryBlobDict:
    return InMemoryBlobDict()


@pytest.fixture
def origin(tmp_path: Path) -> PathBlobDict:
    return PathBlobDict(tmp_path)


def test_a_put_goes_to_all_and_a_delete_too(cache: BlobDict, origin: BlobDict) -> None:
    d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    d["a"] = BytesBlob(b"1")
    assert cache["a"] == origin["a"] == BytesBlob(b"1")
    del d["a"]
    assert "a" not in cache
    assert "a" not in origin
    with pytest.raises(KeyError):
        del d["a"]


def test_a_read_fills_what_comes_before(cache: BlobDict, origin: BlobDict) -> None:
    middle = InMemoryBlobDict()
    d = MultiReplicaBlobDict({"cache": cache, "middle": middle, "origin": origin})
    origin["a.txt"] = StrBlob("one")
    origin["empty"] = BytesBlob(b"")
    assert d["a.txt"] == d.get("a.txt") == StrBlob("one")
    assert cache["a.txt"] == middle["a.txt"] == StrBlob("one")
    assert d["empty"] == BytesBlob(b"")
    assert cache["empty"] == middle["empty"] == BytesBlob(b"")
    middle["b"] = BytesBlob(b"2")
    assert d["b"] == BytesBlob(b"2")
    assert ("b" in cache, "b" in origin) == (True, False)


def test_without_fill_nothing_is_put(cache: BlobDict, origin: BlobDict) -> None:
    d = MultiReplicaBlobDict({"cache": cache, "origin": origin}, fill=False)
    origin["a"] = BytesBlob(b"1")
    assert d["a"] == BytesBlob(b"1")
    assert "a" not in cache


def test_a_filled_replica_is_read(origin: BlobDict) -> None:
    counting = Counting(origin.store)
    d = MultiReplicaBlobDict({"cache": InMemoryBlobDict(), "origin": BlobDict(counting)})
    origin["a"] = BytesBlob(b"1")
    assert [d["a"] for _ in range(5)] == [BytesBlob(b"1")] * 5
    assert counting.calls["read"] == 1


def test_a_replica_that_can_not_create_is_not_filled(origin: BlobDict) -> None:
    weak = BlobDict(Limited(MemoryStore(), ~(Can.CREATE | Can.SWAP)))
    d = MultiReplicaBlobDict({"weak": weak, "origin": origin})
    origin["a"] = BytesBlob(b"1")
    assert d["a"] == BytesBlob(b"1")
    assert "a" not in weak


def test_a_fill_never_outlives_its_source() -> None:
    short, cache, plain = (
        InMemoryBlobDict(ttl=60),
        InMemoryBlobDict(),
        BlobDict(Limited(MemoryStore(), ~Can.EXPIRE)),
    )
    d = MultiReplicaBlobDict({"plain": plain, "cache": cache, "short": short})
    short["a"] = BytesBlob(b"1")
    assert d["a"] == BytesBlob(b"1")
    assert "a" not in plain
    assert cache.store.info("a").expires == short.store.info("a").expires is not None


def test_what_the_cache_lost_is_deleted_and_popped_at_once(cache: BlobDict, origin: BlobDict) -> None:
    d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    for take in (d.__delitem__, d.pop):
        d["a"] = BytesBlob(b"1")
        cache.clear()
        take("a")
        assert ("a" in cache, "a" in origin, "a" in d) == (False, False, False)
    d["a"] = BytesBlob(b"1")
    cache.clear()
    assert d.setdefault("a", BytesBlob(b"2")) == BytesBlob(b"1")
    assert d.popitem() == ("a", BytesBlob(b"1"))


def test_listing_is_the_merged_union(cache: BlobDict, origin: BlobDict) -> None:
    d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    cache["a"] = cache["c"] = BytesBlob(b"1")
    origin["b"] = origin["c"] = BytesBlob(b"2")
    assert list(d) == ["a", "b", "c"]
    assert len(d) == 3
    assert [blob.as_bytes() for blob in d.values()] == [b"1", b"2", b"1"]
    d.clear()
    assert not cache
    assert not origin


def test_calls_of_some_replicas_by_name(cache: BlobDict, origin: BlobDict) -> None:
    d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    origin["a"] = BytesBlob(b"1")
    assert d.get("a", replica_names={"cache"}) is None
    assert d.get("a", "default", replica_names=["cache"]) == "default"
    assert d.get("a", replica_names={"origin", "cache"}) == BytesBlob(b"1")
    assert "a" not in cache
    assert (d.contains("a"), d.contains("a", replica_names={"cache"})) == (True, False)
    assert (d.len(), d.len(replica_name="cache"), d.len(replica_name="origin")) == (1, 0, 1)
    assert (list(d.iter()), list(d.iter(replica_name="cache"))) == (["a"], [])
    d.put("b", BytesBlob(b"2"), replica_names={"cache"})
    d.__setitem__("c", BytesBlob(b"3"), replica_names={"origin"})
    assert (list(cache), list(origin)) == (["b"], ["a", "c"])
    assert d.pop("b", replica_names={"cache"}) == BytesBlob(b"2")
    assert d.pop("a", None, replica_names={"cache"}) is None
    with pytest.raises(KeyError):
        d.pop("a", replica_names={"cache"})
    d.clear(replica_names={"cache"})
    assert len(origin) == 2
    with pytest.raises(InvalidArgumentError, match=r"named 'disk'; the replicas are 'cache', 'origin'"):
        d.get("a", replica_names={"disk"})
    assert list(d.replicas) == ["cache", "origin"]


def test_replicas_by_name_that_refuse_a_blob_or_a_key(cache: BlobDict, tmp_path: Path) -> None:
    texts = PathBlobDict(tmp_path, blob_class=StrBlob)
    d = MultiReplicaBlobDict({"cache": cache, "texts": texts})
    names = {"cache", "texts"}
    with pytest.raises(TypeError, match="takes StrBlob"):
        d.put("a", BytesBlob(b"1"), replica_names=names)
    for bad in ("../a", ""):
        with pytest.raises(InvalidKeyError):
            d.put(bad, StrBlob("1"), replica_names=names)
    wrong: Any = 5
    with pytest.raises(InvalidArgumentError, match="set of names"):
        d.get("a", replica_names=wrong)
    assert (len(cache), len(texts)) == (0, 0)
    assert d.get("a", "none", replica_names=()) == "none"
    d.put("a", StrBlob("1"), replica_names=())
    assert (len(d), d.contains("a", replica_names=())) == (0, False)
    with pytest.raises(InvalidArgumentError, match="no replica is named ''"):
        d.len(replica_name="")
    with pytest.raises(KeyError):
        d.pop("a", replica_names=())


def test_replicas_by_name_of_which_one_is_away(cache: BlobDict, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken(MemoryStore())
    middle = InMemoryBlobDict()
    d = MultiReplicaBlobDict({"near": cache, "middle": middle, "far": BlobDict(store)})
    d["a"] = BytesBlob(b"1")
    store.away = True
    with pytest.raises(PartialWriteError) as caught:
        d.put("b", BytesBlob(b"2"), replica_names=["far", "near", "middle"])
    assert (list(caught.value.failures), caught.value.written) == (["far"], ("near", "middle"))
    assert caught.value.key == "b"
    # What can't be deleted everywhere is still in the first one: nothing is lost with the error.
    with pytest.raises(PartialWriteError):
        d.pop("a", replica_names=["near", "far"])
    assert cache["a"] == BytesBlob(b"1")
    # One that is away doesn't hide what another one has.
    d2 = MultiReplicaBlobDict({"far": BlobDict(store), "near": cache})
    assert d2.get("b", replica_names=["far", "near"]) == BytesBlob(b"2")
    assert d2.contains("b", replica_names=["far", "near"])
    assert "'far' failed to read 'b'" in caplog.text
    with pytest.raises(StoreUnavailableError):
        d2.get("absent", replica_names=["far", "near"])
    with pytest.raises(StoreUnavailableError):
        d2.pop("b", replica_names=["far", "near"])
    assert "b" in cache
    with pytest.raises(StoreUnavailableError):
        d.put("c", BytesBlob(b""), replica_names={"far"})
    with pytest.raises(PartialWriteError):
        d.clear(replica_names=["far", "near"])
    assert (len(cache), len(middle)) == (0, 2)
    with pytest.raises(StoreUnavailableError):
        d.clear(replica_names={"far"})


def test_a_close_also_frees_what_calls_by_name_hold(cache: BlobDict, origin: BlobDict) -> None:
    d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
    d.put("b", BytesBlob(b"1"), replica_names=["cache", "origin"])
    view = d._view(["cache", "origin"])
    d.close()
    with pytest.raises(StoreClosedError):
        view.get("b")
    assert cache["b"] == origin["b"] == BytesBlob(b"1")


def test_a_replica_that_missed_a_put_by_name_is_asked_again(cache: BlobDict) -> None:
    store = Broken(MemoryStore())
    d = MultiReplicaBlobDict({"far": BlobDict(store), "near": cache})
    store.away = True
    with pytest.raises(PartialWriteError):
        d.put("a", BytesBlob(b"1"), replica_names=["far", "near"])
    store.away = False
    d.put("a", BytesBlob(b"2"), replica_names={"far"})
    assert d.get("a", replica_names=["far", "near"]) == BytesBlob(b"2")
    d.pop("a", replica_names={"near"})
    assert d.get("a", replica_names=["far", "near"]) == BytesBlob(b"2")


def test_a_replica_that_is_away(cache: BlobDict, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken(MemoryStore())
    d = MultiReplicaBlobDict({"near": BlobDict(store), "far": cache})
    d["a"] = BytesBlob(b"1")
    cache["only"] = BytesBlob(b"2")
    store.away = True
    with caplog.at_level(logging.WARNING, "holdall"):
        assert d["a"] == BytesBlob(b"1")
        assert d["only"] == BytesBlob(b"2")
    assert "'near' failed to" in caplog.text
    with pytest.raises(PartialWriteError) as caught:
        d["b"] = BytesBlob(b"3")
    assert list(caught.value.failures) == ["near"]
    with pytest.raises(StoreUnavailableError):
        d.get("absent")
    store.away = False
    assert d["only"] == BytesBlob(b"2")


def test_a_fill_races_deletes_and_leaves_nothing(tmp_path: Path) -> None:
    folder, stop = FilesystemStore(tmp_path), threading.Event()
    cache = InMemoryBlobDict()
    d = MultiReplicaBlobDict({"cache": cache, "origin": BlobDict(folder)})
    other = MultiReplicaBlobDict({"cache": cache, "origin": BlobDict(FilesystemStore(tmp_path))})

    def read(reader: BlobDict) -> None:
        while not stop.is_set():
            assert reader.get("a") in (None, BytesBlob(b"1"))

    def write() -> None:
        try:
            for _ in range(200):
                folder["a"] = b"1"
                d.pop("a", None)
        finally:
            stop.set()

    race(write, lambda: read(d), lambda: read(other))
    d.pop("a", None)
    assert (d.get("a"), cache.get("a"), folder.get("a")) == (None, None, None)


def test_the_second_replica_may_have_types_of_its_own(tmp_path: Path) -> None:
    texts = PathBlobDict(tmp_path, blob_class=StrBlob)
    d = MultiReplicaBlobDict({"cache": InMemoryBlobDict(), "texts": texts})
    with pytest.raises(TypeError):
        d["a"] = BytesBlob(b"1")
    assert len(d) == 0
    texts["a"] = StrBlob("x")
    assert type(d["a"]) is StrBlob


def git(folder: Path, **options: Any) -> GitBlobDict:
    return GitBlobDict(folder, user_name="Ada", user_email="ada@example.org", **options)


def test_a_deletion_is_no_version_of_a_blob(tmp_path: Path) -> None:
    with git(tmp_path) as d:
        d["a.txt"] = StrBlob("one")
        d["a.txt"] = StrBlob("two")
        del d["a.txt"]
        assert [d["a.txt", number].as_str() for number in (0, 1, -1, -2)] == ["one", "two", "two", "one"]
        assert ("a.txt", 2) not in d
        d["a.txt"] = StrBlob("three")
        assert [d["a.txt", number].as_str() for number in (2, -1, -3)] == ["three", "three", "one"]


@pytest.mark.parametrize("compression", [False, "gzip"])
def test_versions_of_a_blob(tmp_path: Path, compression: bool | str) -> None:
    with git(tmp_path, compression=compression) as d:
        d.create()
        for text in ("one", "two", "three"):
            d["a.txt"] = StrBlob(text)
            d["other.txt"] = StrBlob(f"beside {text}")
        assert type(d["a.txt", "HEAD"]) is StrBlob
        assert [d["a.txt", f"HEAD~{back}"].as_str() for back in (0, 1, 2, 4)] == [
            "three",
            "three",
            "two",
            "one",
        ]
        assert [d["a.txt", number].as_str() for number in (0, 1, 2, -1, -2, -3)] == [
            *("one", "two", "three"),
            *("three", "two", "one"),
        ]
        for version in (3, -4, timedelta(days=1), datetime(2020, 1, 1, tzinfo=UTC)):
            assert d.get(("a.txt", version)) is None
            assert ("a.txt", version) not in d
            with pytest.raises(KeyError):
                d["a.txt", version]
        assert d["a.txt", datetime.now(UTC) + timedelta(hours=1)].as_str() == "three"
        assert d.get(("never.txt", "HEAD"), "default") == "default"
        assert ("a.txt", 0) in d
        with pytest.raises(InvalidArgumentError):
            d["a.txt", "no-such-revision"]
        with pytest.raises(InvalidArgumentError):
            d["a.txt", 1.5]  # type: ignore[index]
        for no_pair in (("a.txt",), ("a.txt", "HEAD", "x")):
            calls: list[Callable[[Any], object]] = [d.get, d.__getitem__]
            for call in calls:
                with pytest.raises(InvalidKeyError, match="pair"):
                    call(no_pair)
        # Moments that no calendar has are before the first version, or after the last.
        assert d.get(("a.txt", timedelta.max)) is None
        assert d.get(("a.txt", datetime.min)) is None
        assert d["a.txt", timedelta.min] == d["a.txt", datetime.max] == StrBlob("three")
        messages = [revision.message for revision in d.history("a.txt")]
        assert messages == ["Update a.txt", "Update a.txt", "Add a.txt"]
        assert {revision.author for revision in d.history("a.txt")} == {"Ada"}
        del d["a.txt"]
        assert d["a.txt", 2].as_str() == "three"


def test_an_update_is_one_commit(tmp_path: Path) -> None:
    with git(tmp_path) as d:
        d.update({"a.txt": StrBlob("1"), "b.json": JsonDictBlob({})})
        assert len(d.store.history()) == 1  # type: ignore[attr-defined]
        d.update({"a.txt": StrBlob("1")})
        assert len(d.store.history()) == 1  # type: ignore[attr-defined]


def test_an_author_is_whole(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="go together"):
        GitBlobDict(tmp_path, user_name="Ada")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def test_valkey(server: ValkeyServer) -> None:
    assert VulkeyBlobDict is ValkeyBlobDict
    with ValkeyBlobDict(server.url, prefix="a:") as d, ValkeyBlobDict(server.url, prefix="b:") as other:
        d["text"] = StrBlob("hello")
        d["raw.bin"] = BytesBlob(b"\xff\0")
        assert type(d["text"]) is StrBlob
        assert d["raw.bin"] == BytesBlob(b"\xff\0")
        assert (list(d), len(d), list(other)) == (["raw.bin", "text"], 2, [])
        d.update({str(number): BytesBlob(b"") for number in range(50)})
        assert d.pop("text").as_bytes() == b"hello"
        other["kept"] = BytesBlob(b"1")
        d.clear()
        assert (len(d), len(other)) == (0, 1)


def test_valkey_expires_in_the_server(server: ValkeyServer) -> None:
    with ValkeyBlobDict(server.url, prefix="t:", ttl=timedelta(hours=1)) as d:
        d["a"] = BytesBlob(b"1")
        info = d.store.info("a")
        assert info.expires is not None
        assert 3500 < (info.expires - info.modified).total_seconds() <= 3601


def test_valkey_of_texts_and_by_arguments_of_a_client(server: ValkeyServer) -> None:
    with ValkeyBlobDict(str_blob_only=True, prefix="s:", client_kwargs={"port": server.port}) as d:
        d["a"] = StrBlob("text")
        assert d["a"].as_bytes() == b"text"
        with pytest.raises(TypeError):
            d["b"] = BytesBlob(b"")
        d.clear()


def test_a_cache_in_valkey_before_a_folder(server: ValkeyServer, tmp_path: Path) -> None:
    with ValkeyBlobDict(server.url, prefix="c:", ttl=60) as cache:
        origin = PathBlobDict(tmp_path)
        d = MultiReplicaBlobDict({"cache": cache, "origin": origin})
        origin["a.txt"] = StrBlob("1")
        assert d["a.txt"] == cache["a.txt"] == StrBlob("1")
        d["a.txt"] = StrBlob("2")
        assert cache["a.txt"] == origin["a.txt"] == StrBlob("2")
        assert d.pop("a.txt") == StrBlob("2")
        assert not d
        d.close()


class Duck:
    """All that `dict.update` asks for."""

    def keys(self) -> list[str]:
        return ["duck"]

    def __getitem__(self, key: str) -> BytesBlob:
        return StrBlob(key)


def test_update_takes_what_a_dict_takes(d: BlobDict) -> None:
    d.update(Duck())  # type: ignore[arg-type]
    d.update([["pair", StrBlob("1")]], more=StrBlob("2"))  # type: ignore[list-item]
    assert {key: blob.as_bytes() for key, blob in d.items()} == {"duck": b"duck", "pair": b"1", "more": b"2"}
    for wrong in (5, None, "text", [5], ["ab"], b"ab"):
        with pytest.raises(StoreError) as caught:
            d.update(wrong)  # type: ignore[arg-type]
        assert isinstance(caught.value, TypeError)
    assert d.keys() & {"duck", 5, "", "a//b"} == {"duck"}
    assert ("duck", StrBlob("duck")) in d.items()
    assert 5 not in d.items()


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("a.json", {"x": 1}, "JsonDictBlob({...})"),
        ("a", {"x": 1}, "JsonDictBlob({...})"),
        ("a.yml", {"x": 1}, "YamlDictBlob({...})"),
        ("a.json", "text", "StrBlob('...')"),
        ("a.txt", b"text", "StrBlob(b'...')"),
        ("a.bin", bytearray(b""), "BytesBlob(b'...')"),
        ("a.png", b"", "ImageBlob(b'...')"),
        ("a.png", Path("a.png"), "ImageBlob(path.read_bytes())"),
        ("a.png", Image.new("L", (1, 1)), "ImageBlob(picture)"),
        ("a.json", Point(x=1), "JsonModelBlob(model)"),
        ("a.wav", ([0.0], 8000), "AudioBlob(sound)"),
        ("a", 5, "StrBlob('...')"),
        ("a", None, "StrBlob('...')"),
    ],
)
def test_what_is_no_blob_is_told_the_class_that_fits(key: str, value: object, code: str) -> None:
    d = InMemoryBlobDict()
    for call in (d.__setitem__, d.setdefault, lambda key, value: d.update({key: value})):
        with pytest.raises(InvalidDataError, match=re.escape(f"not {type(value).__name__}; write {code}")):
            call(key, value)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match=re.escape("write StrBlob(")):
        InMemoryBlobDict(blob_class=StrBlob).setdefault("a.bin", b"")  # type: ignore[type-var]
    assert not d


@pytest.mark.parametrize(
    "place", ["s3://bucket/x", "gs://b", Path("s3://bucket/x"), LocalPath("gs://b/c"), "s3:/b"]
)
def test_a_path_that_is_a_uri_makes_no_folder(
    place: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (PathBlobDict, PathStore):
        if make is PathStore and place == "s3:/b":
            continue
        with pytest.raises(InvalidArgumentError, match="URI"):
            make(place)
    assert list(tmp_path.iterdir()) == []
    # By its absolute path such a folder is a folder.
    PathBlobDict(tmp_path / "s3:" / "b")["a"] = BytesBlob(b"")
    assert (tmp_path / "s3:" / "b" / "a").exists()
