"""holdall.toml: stacks by name, built in one order, closed whole, and errors that name file and key."""

from __future__ import annotations

import base64
import os
import pickle
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdall import (
    FilesystemStore,
    InvalidArgumentError,
    MemoryStore,
    PrefixStore,
    ReadOnlyError,
    SqliteStore,
    Store,
    StoreError,
    StoreUnavailableError,
    UnsupportedOperation,
    config,
)
from holdall.layers.layer import Layer
from holdall.uri import register

Write = Callable[[str], Path]
KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the holdall.toml of the working directory."""
    monkeypatch.delenv("HOLDALL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def write(text: str, path: Path = home / "holdall.toml") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def layers(store: Store) -> list[str]:
    """The classes of a stack, from the top down."""
    found = [type(store).__name__]
    if isinstance(store, Layer):
        found += layers(store._below[0])
    return found


def test_the_file_that_is_found(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.find() is None
    user = write("[stores.user]\nuri = 'memory://'", tmp_path / "user" / "holdall" / "holdall.toml")
    assert config.find() == str(user)
    above = write("[stores.above]\nuri = 'memory://'", tmp_path / "holdall.toml")
    assert config.find() == str(above)
    assert config.load().names() == ["above"]
    here = write("[stores.here]\nuri = 'memory://'")
    assert config.find() == str(here)
    named = write("[stores.named]\nuri = 'memory://'", tmp_path / "else" / "any.toml")
    monkeypatch.setenv("HOLDALL_CONFIG", str(named))
    assert config.load().names() == ["named"]
    assert config.load(here).names() == ["here"]
    monkeypatch.setenv("HOLDALL_CONFIG", "")
    assert config.load().names() == ["here"]


def test_no_file_says_where_it_was_looked_for(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (config.load, lambda: Store.from_uri("models:")):
        with pytest.raises(InvalidArgumentError, match=r"user/holdall/holdall\.toml.*HOLDALL_CONFIG"):
            call()
    monkeypatch.setenv("HOLDALL_CONFIG", "/nowhere/h.toml")
    with pytest.raises(InvalidArgumentError, match=r"h\.toml, which HOLDALL_CONFIG names, doesn't exist"):
        Store.from_uri("models:")
    with pytest.raises(InvalidArgumentError, match=r"h\.toml, which HOLDALL_CONFIG names, doesn't exist"):
        config.load()
    with pytest.raises(InvalidArgumentError, match=r"^/else/h\.toml doesn't exist"):
        config.load("/else/h.toml")


def test_a_working_directory_that_is_gone(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert config.find() is None
    finally:
        os.chdir(tmp_path)


def test_what_is_no_toml_names_file_and_line(write: Write) -> None:
    path = write("[stores.a]\nuri = \n")
    with pytest.raises(InvalidArgumentError, match=rf"{path} isn't valid TOML.*line 2"):
        config.load()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgumentError, match="isn't valid TOML"):
        config.load()
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreUnavailableError, match="can't be read"):
        config.load(path)


def test_names_are_stores(write: Write, tmp_path: Path) -> None:
    write(
        '[stores.data]\nuri = "./data"\n'
        '[stores.db]\nuri = "sqlite:///db.sqlite"\noptions = { durable = true }\nprefix = "v1/"\n'
        '[stores."with.dot"]\nuri = "data:sub/folder"\n'
    )
    found = config.load()
    assert found.names() == ["data", "db", "with.dot"]
    assert "data" in found
    with found.open("data") as store, Store.from_uri("data:") as same:
        assert isinstance(store, FilesystemStore)
        store["sub/folder/a"] = b"1"
        assert same["sub/folder/a"] == b"1"
    with Store.from_uri("data:sub") as sub, Store.from_uri("with.dot:") as folder:
        assert dict(sub) == {"folder/a": b"1"}
        assert dict(folder) == {"a": b"1"}
    with Store.from_uri("data:sub/folder/?readonly=1") as store, pytest.raises(ReadOnlyError):
        store["a"] = b"2"
    with Store.from_uri("data:sub", prefix="folder", readonly=True) as store:
        assert dict(store) == {"a": b"1"}
    with Store.from_uri("data:sub%2Ffolder") as store:
        assert dict(store) == {"a": b"1"}
    with Store.from_uri("db:") as store:
        store["k"] = b"2"
    with SqliteStore("db.sqlite") as bare:
        assert dict(bare) == {"v1/k": b"2"}


def test_paths_are_relative_to_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        "".join(
            f'[stores.s{number}]\nuri = "{uri}"\n'
            for number, uri in enumerate(
                ["data0", "./data1", "file://data2", "hashdir://data3", "sqlite:///data4", "zip://data5"]
            )
        )
        + f'[stores.absolute]\nuri = "{tmp_path}/data6"\n[stores.mine]\nuri = "~/data7"\n'
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for name in config.load(path).names():
        with config.load(path).open(name) as store:
            store["k"] = b"1"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    made = {each.name for each in path.parent.iterdir()}
    assert {f"data{number}" for number in range(6)} <= made
    assert (tmp_path / "data6" / "k").exists()
    assert (tmp_path / "me" / "data7" / "k").exists()


def test_a_folder_of_that_name_is_a_path_only_when_written_as_one(write: Write, tmp_path: Path) -> None:
    write('[stores.models]\nuri = "memory://"')
    Path("models:").mkdir()
    with Store.from_uri("models:") as store:
        assert isinstance(store, MemoryStore)
    with Store.from_uri("./models:") as store:
        assert isinstance(store, FilesystemStore)
    Path("other:sub").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"'\./other:\.\.\.'"):
        Store.from_uri("other:sub")


def test_an_unknown_name_says_which_there_are(write: Write) -> None:
    path = write('[stores.models]\nuri = "memory://"\n[stores.logs]\nuri = "memory://"')
    says = rf"no store is named 'model'.*{path} names logs, models; did you mean 'models'\?"
    for call in (lambda: Store.from_uri("model:"), lambda: config.load().open("model")):
        with pytest.raises(InvalidArgumentError, match=says):
            call()
    write("")
    with pytest.raises(InvalidArgumentError, match="names no store"):
        Store.from_uri("model:")


def test_layers_lie_in_one_order_however_they_are_written(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    write(
        "[stores.all]\n"
        "trace = true\nreadonly = true\nttl = 3600\ncompress = 'gzip'\n"
        "encrypt = { key = 'env:THE_KEY' }\ncache = './cache'\nchecksum = 'sha256'\nprefix = 'v1'\n"
        "uri = './data'\n"
        "[stores.writer]\nuri = './data'\nprefix = 'v1'\nchecksum = true\nencrypt = 'env:THE_KEY'\n"
        "compress = { codec = 'gzip', level = 3 }\nttl = '${TTL:-60}'\nreadonly = '${RO:-no}'\n"
        "trace = false\n"
    )
    with Store.from_uri("writer:") as writer:
        writer["a/b"] = b"plain " * 1000
    with Store.from_uri("all:") as store:
        assert layers(store) == [
            "TracedStore",
            "ReadOnlyStore",
            "ExpiringStore",
            "CompressedStore",
            "EncryptedStore",
            "CachingStore",
            "ChecksumStore",
            "PrefixStore",
            "FilesystemStore",
        ]
        assert store["a/b"] == b"plain " * 1000
        with pickle.loads(pickle.dumps(store)) as again:
            assert again["a/b"] == b"plain " * 1000
    # Neither the medium nor the cache sees plain bytes, nor the repetition that compression took away.
    files = [path for folder in ("data", "cache") for path in Path(folder).rglob("*") if path.is_file()]
    assert len({path.parts[0] for path in files}) == 2
    for path in files:
        data = path.read_bytes()
        assert b"plain" not in data
        assert len(data) < 3000
    with Store.from_uri("./data") as bare:
        assert list(bare) == ["v1/a/b", "v1/holdall.encryption"]


def test_a_cache_with_options(write: Write) -> None:
    write(
        "[stores.near]\nuri = 'sqlite:///near.db'\n"
        "[stores.models]\nuri = './far'\n"
        "cache = { uri = 'near:cached', mode = 'write-back', fresh = 'immutable', max_bytes = 1_000_000 }\n"
        "[stores.aged]\nuri = './far'\ncache = { uri = './cache', fresh = 60 }\n"
    )
    with Store.from_uri("models:") as store:
        assert layers(store) == ["CachingStore", "FilesystemStore"]
        assert "write-back" in repr(store) or "WRITE_BACK" in repr(store)
        store["a"] = b"1"
        assert not (Path("far") / "a").exists()
        store.sync()  # type: ignore[attr-defined]
        assert (Path("far") / "a").exists()
    with SqliteStore("near.db") as near:
        assert all(key.startswith("cached/") for key in near)
        assert len(near) > 0
    with Store.from_uri("aged:") as store:
        assert store["a"] == b"1"
        (Path("far") / "a").unlink()
        assert store["a"] == b"1"


def test_a_file_with_a_key_lies_beside_the_one_that_names_it(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        "[stores.vault]\nuri = './vault'\nencrypt = 'file:vault.key'\n"
        "[stores.both]\nuri = './both'\n"
        "encrypt = { keys = { now = 'file:vault.key' }, names = 'file:vault.key' }\n"
    )
    monkeypatch.setenv("HOLDALL_CONFIG", str(path))
    (path.parent / "vault.key").write_text(bytes(range(32)).hex())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "vault.key").write_text(bytes(range(1, 33)).hex())
    for name in ("vault", "both"):
        for folder in (elsewhere, path.parent, tmp_path):
            monkeypatch.chdir(folder)
            with Store.from_uri(f"{name}:") as store:
                store[folder.name] = b"1"
        with Store.from_uri(f"{name}:") as store:
            assert len(store) == 3
            assert set(store.values()) == {b"1"}


def test_stores_in_memory_may_be_caches_of_each_other(write: Write) -> None:
    write("[stores.tmp]\nuri = 'memory://'\ncache = { uri = 'memory://' }\n")
    with Store.from_uri("tmp:") as store:
        store["a"] = b"1"
        assert store["a"] == b"1"


def test_keys_of_encryption_are_rotated(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_KEY", KEY)
    monkeypatch.setenv("NEW_KEY", base64.b64encode(bytes(range(1, 33))).decode())
    keys = "keys = { 2025 = 'env:OLD_KEY', 2026 = 'env:NEW_KEY' }"
    write(
        f"[stores.before]\nuri = './data'\nencrypt = {{ {keys}, current = '2025' }}\n"
        f"[stores.after]\nuri = './data'\nencrypt = {{ {keys}, current = '2026' }}\n"
        "[stores.new]\nuri = './data'\nencrypt = { key = { 2026 = 'env:NEW_KEY' } }\n"
        "[stores.hidden]\nuri = './hidden'\nencrypt = { key = 'env:NEW_KEY', names = 'env:OLD_KEY' }\n"
        f"[stores.both]\nuri = './data'\nencrypt = {{ {keys}, key = 'x' }}\n"
        "[stores.none]\nuri = './data'\nencrypt = { keys = 5 }\n"
    )
    with Store.from_uri("before:") as store:
        store["old"] = b"1"
    with Store.from_uri("after:") as store:
        store["new"] = b"2"
        assert dict(store) == {"old": b"1", "new": b"2"}
    with Store.from_uri("new:") as store:
        assert store["new"] == b"2"
        with pytest.raises(StoreError):
            store["old"]
    with Store.from_uri("hidden:") as store:
        store["secret name"] = b"3"
        assert list(store) == ["secret name"]
    assert not [path for path in Path("hidden").rglob("*") if "secret" in str(path)]
    for name, says in (
        ("both", "encrypt: give key or keys"),
        ("none", "encrypt.keys: expected a table, got a number"),
    ):
        with pytest.raises(InvalidArgumentError, match=rf"stores\.{name}\.{says}"):
            Store.from_uri(f"{name}:")


def test_no_cache_keeps_an_expired_blob_alive(write: Write) -> None:
    for base in ("sqlite:///a.db", "./files"):
        write(
            f"[stores.models]\nuri = '{base}'\nttl = 0.2\n"
            "cache = { uri = 'sqlite:///cache.db', fresh = 'immutable' }\n"
        )
        with Store.from_uri("models:") as store:
            expires = store.put("a", b"1").expires
            assert expires is not None
            assert store.get("a") in (b"1", None)
            while datetime.now(UTC) <= expires:
                time.sleep(0.01)
            assert store.get("a") is None
            assert list(store) == []


def test_a_trace_is_named_as_the_store(write: Write) -> None:
    write(
        "[stores.models]\nuri = 'memory://'\ntrace = true\n"
        "[stores.named]\nuri = 'memory://'\ntrace = { name = 'own' }\n"
    )
    for name, shown in (("models", "models"), ("named", "own")):
        with Store.from_uri(f"{name}:") as store:
            assert f"name='{shown}'" in repr(store)


def test_replicas_and_routes(write: Write) -> None:
    write(
        "[stores.both]\nreplicas = ['./one', 'sqlite:///two.db']\n"
        "[stores.named]\nreplicas = { near = './three', far = 'both:' }\noptions = { write = 2 }\n"
        "[stores.site]\nprefix = 'www'\n"
        "routes = { 'www/logs/' = './logs', '' = 'named:' }\n"
    )
    with Store.from_uri("both:") as store:
        store["a"] = b"1"
    with SqliteStore("two.db") as two:
        assert two["a"] == b"1"
    assert Path("one/a").read_bytes() == b"1"
    with Store.from_uri("site:") as store:
        store["logs/x"] = b"2"
        store["page"] = b"3"
        assert list(store) == ["logs/x", "page"]
    assert sorted(str(path) for path in Path("logs").rglob("x")) != []
    with Store.from_uri("both:") as store:
        assert store["www/page"] == b"3"


def test_everything_that_was_opened_is_closed_with_the_top(write: Write) -> None:
    opened.clear()
    register("watched", watched)
    write(
        "[stores.base]\nuri = 'watched://'\nprefix = 'a'\n"
        "[stores.top]\nreplicas = ['base:b', 'watched://?readonly=0']\ncache = 'watched://?prefix=c'\n"
        "compress = 'gzip'\n"
    )
    store = Store.from_uri("top:sub?readonly=1")
    assert len(opened) == 3
    assert not any(each._closed for each in opened)
    store.close()
    assert all(each._closed for each in opened)


def test_a_stack_that_fails_half_way_leaves_nothing_open(write: Write) -> None:
    register("watched", watched)
    path = write(
        "[stores.base]\nuri = 'watched://'\nprefix = 'a'\n"
        "[stores.one]\nreplicas = ['base:', 'watched://', 'watched://?color=red']\n"
        "[stores.two]\nuri = 'base:'\ncache = 'broken://'\n"
        "[stores.three]\nuri = 'base:'\nprefix = '../up'\n"
    )

    def broken(location: str) -> Store:
        raise StoreUnavailableError("the host is away")

    register("broken", broken)
    for name, count, kind, says in (
        ("one", 2, InvalidArgumentError, r"stores\.one\.replicas\.2: watched:// has no option 'color'"),
        ("two", 1, StoreUnavailableError, r"stores\.two\.cache: the host is away"),
        ("three", 1, InvalidArgumentError, r"stores\.three\.prefix: .*segment"),
    ):
        opened.clear()
        with pytest.raises(kind, match=rf"^{path}: {says}"):
            Store.from_uri(f"{name}:")
        assert len(opened) == count
        assert all(each._closed for each in opened)


opened: list[MemoryStore] = []


def watched(location: str) -> Store:
    """Opens a store that can be asked later whether it was closed."""
    opened.append(MemoryStore())
    return opened[-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[store.a]\nuri = 'x'", r"store: unknown; known are stores, defaults; did you mean 'stores'\?"),
        ("stores = 5", r"stores: expected a table, got a number"),
        ("[stores]\nab = 5", r"stores\.ab: expected a table, got a number"),
        ("[stores.'a/b']\nuri = 'x'", r"stores\.\"a/b\": the name of a store"),
        ("[stores.ab]\nurl = 'x'", r"stores\.ab\.url: unknown; .*did you mean 'uri'\?"),
        ("[stores.ab]", r"stores\.ab: expected one of uri, replicas and routes, got nothing"),
        ("[stores.ab]\nuri = 'x'\nroutes = {}", r"stores\.ab: .*got uri and routes"),
        ("[stores.ab]\nuri = 5", r"stores\.ab\.uri: expected a string, got a number"),
        ("[stores.ab]\nuri = ''", r"stores\.ab\.uri: expected a URI or a path"),
        ("[stores.ab]\nuri = 'nope://x'", r"stores\.ab\.uri: unknown scheme 'nope'"),
        ("[stores.ab]\nuri = 'x'\noptions = 5", r"stores\.ab\.options: expected a table, got a number"),
        (
            "[stores.ab]\nuri = 'x'\noptions = { durible = true }",
            r"stores\.ab\.options\.durible: unknown; .*did you mean 'durable'",
        ),
        ("[stores.ab]\nuri = 'x'\nreadonly = 1", r"stores\.ab\.readonly: expected true, false or a table"),
        ("[stores.ab]\nuri = 'x'\nreadonly = {a = 1}", r"stores\.ab\.readonly\.a: unknown"),
        ("[stores.ab]\nuri = 'x'\nprefix = 5", r"stores\.ab\.prefix: expected a string, got a number"),
        ("[stores.ab]\nuri = 'x'\nprefix = ''", r"stores\.ab\.prefix: .*at least one character"),
        ("[stores.ab]\nuri = 'x'\nprefix = true", r"stores\.ab\.prefix: expected a string, got a boolean"),
        ("[stores.ab]\nuri = 'x'\nttl = 'soon'", r"stores\.ab\.ttl: expected a number, got a string"),
        ("[stores.ab]\nuri = 'x'\nttl = -1", r"stores\.ab\.ttl: .*more than 0"),
        ("[stores.ab]\nuri = 'x'\nttl = 1979-05-27", r"stores\.ab\.ttl: expected a number, got a date"),
        ("[stores.ab]\nuri = 'x'\nttl = {}", r"stores\.ab\.ttl: the option 'ttl' is missing"),
        ("[stores.ab]\nuri = 'x'\nencrypt = {}", r"stores\.ab\.encrypt: the option 'key' is missing"),
        ("[stores.ab]\nreplicas = []", r"stores\.ab\.replicas: expected at least one store"),
        ("[stores.ab]\nreplicas = 'x'", r"stores\.ab\.replicas: expected a list or a table, got a string"),
        ("[stores.ab]\nreplicas = ['x', 5]", r"stores\.ab\.replicas\.1: expected a string, got a number"),
        ("[stores.ab]\nroutes = ['x']", r"stores\.ab\.routes: expected a table, got a list"),
        (
            "[stores.ab]\nroutes = {'logs/' = 'nope:'}",
            r"stores\.ab\.routes\.\"logs/\": no store is named 'nope'",
        ),
        (
            "[stores.ab]\nreplicas = ['x']\noptions = { wirte = 1 }",
            r"stores\.ab\.options\.wirte: unknown; .*did you mean 'write'\?",
        ),
        ("[stores.ab]\nuri = 'x'\ncache = { mode = 'none' }", r"stores\.ab\.cache: expected a uri"),
        (
            "[stores.ab]\nuri = 'x'\ncache = { uri = 'y', mod = 'none' }",
            r"stores\.ab\.cache\.mod: unknown; .*did you mean 'mode'\?",
        ),
        (
            "[stores.ab]\nuri = 'x'\ncache = { uri = 'y', mode = 'wirte-back' }",
            r"stores\.ab\.cache\.mode: .*write-back",
        ),
        ("[stores.ab]\nuri = 'x'\ncache = 'x'", r"stores\.ab\.cache: a store can't be its own cache"),
        (
            "[stores.ab]\nuri = 'x'\ncache = { uri = 'x' }",
            r"stores\.ab\.cache\.uri: a store can't be its own",
        ),
        ("[stores.ab]\nuri = 'x'\ncache = 5", r"stores\.ab\.cache: expected a string, got a number"),
        ("[stores.ab]\nuri = 'x'\ncompress = 'zip'", r"stores\.ab\.compress: .*gzip"),
        (
            "[stores.ab]\nuri = 'x'\ncompress = { level = 'x' }",
            r"stores\.ab\.compress\.level: expected a num",
        ),
        ("[stores.ab]\nuri = 'x'\nchecksum = 'crc'", r"stores\.ab\.checksum: .*sha256"),
        ("[stores.ab]\nuri = 'x'\nchecksum = 5", r"stores\.ab\.checksum: expected a string, got a number"),
        ("[stores.ab]\nuri = 'cd:'", r"stores\.ab\.uri: no store is named 'cd'; .* names ab$"),
        ("[stores.ab]\nuri = 'ab:'", r"stores\.ab\.uri: a store can't be made of itself: ab -> ab"),
        ("[stores.ab]\nuri = 'x'\ncache = 'ab:sub'", r"stores\.ab\.cache: .*ab -> ab"),
        (
            (
                "[stores.ab]\nuri = 'cd:'\n[stores.cd]\nreplicas = {one = 'x', two = 'ef:'}\n"
                "[stores.ef]\nroutes = {'' = 'ab:'}"
            ),
            r"stores\.ef\.routes\.\"\": a store can't be made of itself: ab -> cd -> ef -> ab",
        ),
        ("[stores.ab]\nuri = 'cd:'\noptions = {a = 1}\n[stores.cd]\nuri = 'x'", r"stores\.ab\.options: "),
        (
            "[stores.ab]\nuri = 'cd:?frob=1'\n[stores.cd]\nuri = 'x'",
            r"stores\.ab\.uri: cd: has no option 'frob'",
        ),
        (
            "[stores.ab]\nuri = '${UNSET_THING}'",
            r"stores\.ab\.uri: the environment variable UNSET_THING isn't set",
        ),
        ("[stores.ab]\nuri = '$HOME/x'", r"stores\.ab\.uri: a lone '\$'"),
        ("[stores.ab]\nuri = '${}'", r"stores\.ab\.uri: a lone '\$'"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(
    text: str, says: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSET_THING", raising=False)
    path = write(text)
    before = set(path.parent.iterdir())
    with pytest.raises(InvalidArgumentError, match=rf"^{path}: {says}"):
        config.load().open("ab")
    assert set(path.parent.iterdir()) == before


def test_one_wrong_store_leaves_the_others(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET_THING", raising=False)
    write("[stores.bad]\nuri = '${UNSET_THING}'\nfrob = 1\n[stores.good]\nuri = 'memory://'")
    Store.from_uri("good:").close()


def test_variables_are_filled_in_any_string(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PLACE": "data", "EMPTY": "", "YES": "yes", "SECONDS": "60"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("UNSET_THING", raising=False)
    write(
        "[stores.ab]\nuri = './${PLACE}${EMPTY}/${EMPTY:-sub}/${UNSET_THING:-$$}'\n"
        "prefix = 'costs-$$5'\nreadonly = '${YES}'\nttl = '${SECONDS}'\noptions = { durable = '${YES}' }\n"
    )
    with Store.from_uri("ab:") as store:
        assert layers(store) == ["ReadOnlyStore", "ExpiringStore", "PrefixStore", "FilesystemStore"]
        assert "/data/sub/$$'" in repr(store)
        assert "costs-$5/" in repr(store)
        assert "durable=True" in repr(store)


def test_a_variable_switches_a_layer_or_gives_its_option(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        "[stores.codec]\nuri = 'memory://'\ncompress = '${CODEC}'\n"
        "[stores.sum]\nuri = 'memory://'\nchecksum = '${SUM}'\n"
        "[stores.locked]\nuri = 'memory://'\nreadonly = '${LOCKED}'\n"
    )
    monkeypatch.setenv("CODEC", "gzip")
    assert "codec='gzip'" in repr(Store.from_uri("codec:"))
    monkeypatch.setenv("CODEC", "false")
    assert layers(Store.from_uri("codec:")) == ["MemoryStore"]
    monkeypatch.setenv("SUM", "md5-or-so")
    with pytest.raises(InvalidArgumentError, match=r"stores\.sum\.checksum: .*blake3"):
        Store.from_uri("sum:")
    for neither in ("", "locked"):
        monkeypatch.setenv("LOCKED", neither)
        with pytest.raises(InvalidArgumentError, match=r"stores\.locked\.readonly: expected true, false"):
            Store.from_uri("locked:")


SECRETS = (
    "hunter2",
    "42",
    "frob://user:p%40ss-w0rd@host/bucket?token=t0k3n-abc",
    "sqlite://secret-place",
    "./x?",
    "line\nbreak-secret",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "uri = '${SECRET}://x'",
        "uri = '${SECRET}'\noptions = { frob = 1 }",
        "uri = '${SECRET}:'",
        "uri = 'memory://?${SECRET}=1'",
        "uri = 'memory://?readonly=${SECRET}'",
        "uri = 'sqlite://${SECRET}'",
        "uri = 'memory://'\nprefix = '../${SECRET}'",
        "uri = 'memory://'\nttl = '${SECRET}x'",
        "uri = 'memory://'\ncompress = '${SECRET}'",
        "uri = 'memory://'\nchecksum = '${SECRET}'",
        "uri = 'memory://'\nreadonly = '${SECRET}'",
        "uri = 'memory://'\ncache = { uri = 'memory://', mode = '${SECRET}' }",
        "uri = 'memory://'\nencrypt = '${SECRET}'",
        "uri = 'memory://'\nencrypt = { key = '${SECRET}', names = '${SECRET}' }",
    ],
)
def test_what_came_from_a_variable_is_in_no_error(
    secret: str, text: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", secret)
    folder = os.path.dirname(write(f"[stores.ab]\n{text}\n"))
    try:
        Store.from_uri("ab:").close()
    except StoreError as error:
        # What the message shows besides is the file's own path and text; its folder may have 42 in its name.
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
        shown = shown.replace(folder, "")
        shown = shown[shown.index("holdall.toml: stores.ab") :] if secret == "42" else shown
        for part in {secret, "hunter2", "ss-w0rd", "p@ss", "t0k3n", "secret-place", "break-secret"}:
            if part in secret or part == "p@ss":
                assert part not in shown


def test_types_of_an_error_outlive_its_new_text(write: Write) -> None:
    def unable(location: str) -> Store:
        raise UnsupportedOperation("the server is too old", key="k")

    register("unable", unable)
    path = write("[stores.ab]\nuri = 'unable://'")
    with pytest.raises(UnsupportedOperation) as caught:
        Store.from_uri("ab:")
    assert str(caught.value) == f"{path}: stores.ab.uri: 'k': the server is too old"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert isinstance(Store.from_uri("memory://") / "a", PrefixStore)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "named", "says"),
    [
        (1000, 1000, 0o644, False, None),
        (1000, 1000, 0o664, False, None),
        (0, 0, 0o644, False, None),
        (1000, 100, 0o664, False, "can be written by other users"),
        (1000, 1000, 0o666, False, "can be written by other users"),
        (0, 0, 0o646, False, "can be written by other users"),
        (1000, 1000, 0o646, True, "can be written by other users"),
        (65534, 65534, 0o644, False, r"belongs to another user \(uid 65534\)"),
        (65534, 65534, 0o600, False, "HOLDALL_CONFIG="),
        (65534, 65534, 0o644, True, None),
    ],
)
def test_only_a_file_of_this_user_or_root_is_used(
    owner: int,
    group: int,
    mode: int,
    named: bool,
    says: str | None,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write('[stores.pad]\nuri = "memory://"\nprefix = "${SECRET_TOKEN}"')
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    if named:
        monkeypatch.setenv("HOLDALL_CONFIG", str(path))
    # As another process would see it: files of other users take root to make.
    status = os.stat_result((mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
    monkeypatch.setattr("holdall.config.os.fstat", lambda fd: status)
    monkeypatch.setattr("holdall.config.os.geteuid", lambda: 1000)
    if says is None:
        assert repr(Store.from_uri("pad:")) == "PrefixStore(MemoryStore(), prefix='hunter2/')"
        return
    for opening in (lambda: Store.from_uri("pad:"), config.load):
        with pytest.raises(InvalidArgumentError, match=says) as caught:
            opening()
        assert str(path) in str(caught.value)
        assert "hunter2" not in str(caught.value)


def test_a_file_that_all_can_write_is_refused(write: Write) -> None:
    path = write('[stores.pad]\nuri = "memory://"')
    path.chmod(0o666)
    with pytest.raises(InvalidArgumentError, match="chmod go-w"):
        Store.from_uri("pad:")
    path.chmod(0o600)
    Store.from_uri("pad:").close()


@pytest.mark.parametrize("name", ["v", "1a", "my store", "é", "_x", ""])
def test_a_name_that_cannot_be_one_is_refused_in_the_file_and_in_a_uri(name: str, write: Write) -> None:
    write(f'[stores."{name}"]\nuri = "./vault"\nencrypt = "env:NOT_SET"')
    for uri in (f"{name}:", f"{name}:a/folder", f"{name}:?readonly=1"):
        with pytest.raises(InvalidArgumentError, match=r"can't be the name of a store.*write '\./"):
            Store.from_uri(uri)
    with pytest.raises(InvalidArgumentError, match="the name of a store begins with a letter"):
        config.load()
    write('[stores.ok]\nuri = "v:"')
    with pytest.raises(InvalidArgumentError, match="'v:' can't be the name of a store"):
        Store.from_uri("ok:")
    assert os.listdir() == ["holdall.toml"]


def test_a_path_with_a_colon_is_one_where_it_is_written_as_one(write: Write, tmp_path: Path) -> None:
    for path in ("./v:", "../home/v:", str(tmp_path / "home" / "v:"), Path("v:"), Path("./v:")):
        with Store.from_uri(path) as store:  # type: ignore[arg-type]
            assert repr(store) == f"FilesystemStore('{tmp_path / 'home' / 'v:'}')"


def test_encryption_in_the_file_has_every_option(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdall import EncryptedStore

    monkeypatch.setenv("NEW", bytes(range(32)).hex())
    monkeypatch.setenv("OLD", bytes(range(1, 33)).hex())
    right = EncryptedStore(MemoryStore(), "env:NEW").fingerprints()["default"]
    text = (
        '[stores.safe]\nuri = "memory://"\nencrypt = {{ keys = {{ new = "env:NEW", old = "env:OLD" }}, '
        'current = "new", context = "prod", retired = ["old"], fingerprint = "{}" }}'
    )
    write(text.format(right))
    with Store.from_uri("safe:") as store:
        assert "context='prod', retired=('old',)" in repr(store)
    write(text.format("0" * 16))
    with pytest.raises(InvalidArgumentError, match=f"expected the fingerprint 0000000000000000, got {right}"):
        Store.from_uri("safe:")
