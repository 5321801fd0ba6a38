"""From URIs to stores: strict about what nobody knows."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.packages import install

import holdall
from holdall import (
    FilesystemStore,
    HashdirStore,
    InvalidArgumentError,
    MemoryStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    ZipStore,
)
from holdall.uri import register, schemes


@pytest.mark.parametrize(
    ("uri", "kind", "shown"),
    [
        ("memory://", MemoryStore, "MemoryStore()"),
        ("memory://pad", MemoryStore, "MemoryStore(name='pad')"),
        ("data", FilesystemStore, "FilesystemStore('{cwd}/data')"),
        ("./data/x y", FilesystemStore, "FilesystemStore('{cwd}/data/x y')"),
        ("{cwd}/data", FilesystemStore, "FilesystemStore('{cwd}/data')"),
        ("./what?", FilesystemStore, "FilesystemStore('{cwd}/what?')"),
        ("./what?v=1", FilesystemStore, "FilesystemStore('{cwd}/what?v=1')"),
        ("file://./what%3Fdurable=1", FilesystemStore, "FilesystemStore('{cwd}/what?durable=1')"),
        ("file://{cwd}/data", FilesystemStore, "FilesystemStore('{cwd}/data')"),
        ("file://{cwd}/a%20b?durable=yes", FilesystemStore, "FilesystemStore('{cwd}/a b', durable=True)"),
        ("FILE://{cwd}/data", FilesystemStore, "FilesystemStore('{cwd}/data')"),
        ("hashdir://{cwd}/h?width=1&depth=2", HashdirStore, "HashdirStore('{cwd}/h', width=1, depth=2)"),
        ("sqlite:///x.db", SqliteStore, "SqliteStore('{cwd}/x.db')"),
        ("sqlite:///{cwd}/x.db?durable=true", SqliteStore, "SqliteStore('{cwd}/x.db', durable=True)"),
        ("zip://x.zip", ZipStore, "ZipStore('{cwd}/x.zip'{rest})"),
        ("zip://{cwd}/x.zip?durable=0", ZipStore, "ZipStore('{cwd}/x.zip'{rest})"),
    ],
)
def test_uris(
    uri: str, kind: type[Store], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cwd = str(tmp_path)
    with Store.from_uri(uri.replace("{cwd}", cwd)) as store:
        assert type(store) is kind
        text = repr(store)
        rest = text[text.index(".zip'") + 5 : -1] if ".zip'" in text else ""
        assert text == shown.replace("{cwd}", cwd).replace("{rest}", rest)
        store["a"] = b"1"
        again = pickle.loads(pickle.dumps(store))
        assert again["a"] == b"1"
        again.close()


def test_a_path_object_and_options_as_keywords(tmp_path: Path) -> None:
    with Store.from_uri(str(tmp_path / "s"), durable=True) as store:
        assert repr(store).endswith("durable=True)")
    with Store.from_uri(tmp_path / "s") as store:  # type: ignore[arg-type]
        assert isinstance(store, FilesystemStore)


@pytest.mark.parametrize(
    ("uri", "options", "says"),
    [
        ("nope://x", {}, "memory"),
        ("memory://?durable=1", {}, "no option 'durable'"),
        ("file:///x?durible=1", {}, "known are durable"),
        ("file:///x?durable=perhaps", {}, "true or false"),
        ("hashdir:///x?width=two", {}, "a number"),
        ("file:///x?durable=1&durable=0", {}, "twice"),
        ("file:///x?durable=1", {"durable": True}, "twice"),
        ("./x", {"width": 2}, "no option 'width'"),
        ("./x?readonly=1", {}, r"'readonly': write file://\./x\?readonly=1, or file://\./x%3Freadonly=1"),
        ("./x?durable=1", {}, "a path takes no options"),
        ("x?y?prefix=a&v=1", {}, "a path takes no options"),
        ("memory://?prefx=a", {}, "known are prefix, readonly"),
        ("./x", {"prefix": ""}, "the option 'prefix' is a folder.*at least one character"),
        ("file:///x?prefix=../up", {}, "segment"),
        ("./x", {"prefix": 5}, "not int"),
        ("./x", {"readonly": "no"}, "true or false"),
        ("memory://?readonly=maybe", {}, "true or false"),
        ("memory://?readonly=1", {"readonly": True}, "twice"),
        ("file:/x", {}, "begins with file://"),
        ("models:", {}, "no store is named 'models'.*there is no holdall.toml"),
        ("models:a?frob=1", {}, "no option 'frob'; known are prefix, readonly"),
        ("models:../up", {}, "segment"),
        ("sqlite://x.db", {}, "sqlite:///relative"),
        ("sqlite:x.db", {}, "begins with sqlite://"),
        ("sqlite:///x.db#a", {}, "names the value 'a' of a store, .* a store is 'sqlite:///x.db'; write %23"),
        ("zip://x.zip#a/b", {}, "names the value 'a/b'"),
        ("memory://pad#a", {}, "names the value 'a'"),
        ("hashdir://x#a?durable=1", {}, "names the value 'a'"),
        ("git+file://x#", {}, "names the value ''"),
        ("holdall+sqlite:///x.db", {}, "the URI of the store itself: sqlite://"),
        ("holdall://x", {}, "the URI of the store itself"),
        ("", {}, "expected a URI or a path"),
        (5, {}, "a URI is a str"),
        (None, {}, "a URI is a str"),
        (b"./x", {}, "a URI is a str"),
    ],
)
def test_what_nobody_knows_is_refused(
    uri: str, options: dict[str, object], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDALL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    with pytest.raises(InvalidArgumentError, match=says):
        Store.from_uri(uri, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "uri", ["{}/s", "file://{}/s", "hashdir://{}/s", "sqlite:///{}/s.db", "zip://{}/s.zip"]
)
def test_every_store_has_a_prefix_and_can_be_read_only(uri: str, tmp_path: Path) -> None:
    uri = uri.format(tmp_path)
    with Store.from_uri(uri) as whole:
        whole.update({"logs/a": b"1", "logs.old": b"2"})
    mark = "&" if "?" in uri else "?"
    if "://" in uri:
        with Store.from_uri(f"{uri}{mark}prefix=logs%2F&readonly=1") as logs:
            assert dict(logs) == {"a": b"1"}
            with pytest.raises(holdall.ReadOnlyError):
                logs["a"] = b"2"
    with Store.from_uri(uri, prefix="logs") as logs:
        logs["b"] = b"3"
    with Store.from_uri(uri, readonly=True) as whole:
        assert dict(whole) == {"logs.old": b"2", "logs/a": b"1", "logs/b": b"3"}
        with pytest.raises(holdall.ReadOnlyError):
            whole.clear()
    with Store.from_uri(uri, prefix=None, readonly=False) as whole:
        assert not isinstance(whole, holdall.PrefixStore | holdall.ReadOnlyStore)


opened: list[MemoryStore] = []


def watched(location: str) -> Store:
    """Opens a store that can be asked later whether it was closed."""
    opened.append(MemoryStore())
    return opened[-1]


def test_the_layers_of_a_uri_close_what_is_below_them() -> None:
    opened.clear()
    register("watched", watched)
    store = Store.from_uri("watched://?prefix=a&readonly=1")
    assert not opened[0]._closed
    store.close()
    assert opened[0]._closed


def test_a_layer_that_cannot_be_built_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    from holdall.layers import readonly

    opened.clear()
    register("watched", watched)

    def broken(store: Store) -> Store:
        raise holdall.UnsupportedOperation("no")

    monkeypatch.setattr(readonly, "ReadOnlyStore", broken)
    with pytest.raises(holdall.UnsupportedOperation):
        Store.from_uri("watched://?prefix=a&readonly=1")
    assert opened[0]._closed


def test_an_option_of_the_store_itself_goes_before_the_layer() -> None:
    def opener(location: str, *, prefix: str = "", readonly: str = "") -> Store:
        return MemoryStore({"got": f"{prefix}|{readonly}".encode()})

    register("prefixed", opener)
    assert Store.from_uri("prefixed://?prefix=//x&readonly=perhaps")["got"] == b"//x|perhaps"


def test_an_unknown_scheme_lists_those_known() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"expected a path, or one of .*file.*hashdir.*memory.*sqlite.*zip"
    ):
        Store.from_uri("s4://bucket")
    assert {"file", "hashdir", "memory", "s3", "sqlite", "zip"} <= set(schemes())


def test_a_registered_scheme_has_its_functions_options() -> None:
    def opener(location: str, *, size: int = 3, name: str | None = None) -> Store:
        return MemoryStore({"location": location.encode(), "size": b"%d" % size})

    register("Own+x", opener)
    assert Store.from_uri("own+x://here%2Fthere?size=5")["location"] == b"here/there"
    assert Store.from_uri("own+x://here?size=5")["size"] == b"5"
    with pytest.raises(InvalidArgumentError, match="known are name, size; for any store prefix, readonly"):
        Store.from_uri("own+x://here?sise=5")
    with pytest.raises(InvalidArgumentError):
        register("no scheme", opener)


def test_a_built_in_scheme_is_replaced_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from holdall import uri

    monkeypatch.setattr(uri, "_registered", {})
    for scheme in ("sqlite", "SQLite", "file", "git+file"):
        with pytest.raises(InvalidArgumentError, match="replace=True"):
            register(scheme, watched)
    register("sqlite", lambda location: MemoryStore({"mine": b""}), replace=True)
    assert list(Store.from_uri("sqlite:///x.db")) == ["mine"]
    for wrong in ((5, watched), ("mine", 5), ("mine", None)):
        with pytest.raises(TypeError):
            register(*wrong)  # type: ignore[arg-type]


def test_a_subclass_has_the_options_of_its_own_constructor() -> None:
    class Level(MemoryStore):
        def __init__(self, place: str = "", *, level: int = 0, note="none") -> None:
            super().__init__()
            self.given = place, level, note

    class Same(MemoryStore):
        """Opened as a memory store is."""

    register("level", Level)
    register("same", Same)
    store = Store.from_uri("level://x?level=5&note=7")
    assert isinstance(store, Level)
    # Without an annotation an option is text.
    assert store.given == ("x", 5, "7")
    same = Store.from_uri("same://pad")
    assert isinstance(same, Same)
    assert repr(same) == "Same(name='pad')"


def test_third_parties_come_in_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "third.py").write_text(
        "import holdall\n"
        "class ThirdStore(holdall.MemoryStore):\n"
        "    schemes = ('third',)\n"
        "    @classmethod\n"
        "    def _from_uri(cls, location, *, color: str = 'red'):\n"
        "        return cls({location: color.encode()})\n"
    )
    entries = {"third": "third:ThirdStore", "gone": "third:Gone"}
    install(tmp_path, "third", "1.0", {"holdall.stores": entries})
    code = (
        "import holdall\n"
        "from holdall.uri import schemes\n"
        "assert 'third' in schemes()\n"
        "store = holdall.Store.from_uri('third://key?color=blue')\n"
        "assert type(store).__name__ == 'ThirdStore' and store['key'] == b'blue'\n"
        "try:\n    holdall.Store.from_uri('third://key?colour=blue')\n"
        "except holdall.InvalidArgumentError as error:\n    assert 'color' in str(error)\n"
        "else:\n    raise AssertionError\n"
        "try:\n    holdall.Store.from_uri('gone://key')\n"
        "except holdall.InvalidArgumentError as error:\n    assert 'third:Gone' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_a_memory_store_does_not_pretend_in_another_process() -> None:
    store = MemoryStore({"a": b"1"})
    here = pickle.loads(pickle.dumps(store))
    here["b"] = b"2"
    assert store["b"] == b"2"
    code = "import pickle, sys\nprint(pickle.load(sys.stdin.buffer)['a'])\n"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(store), capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert b"can't be opened in another process" in done.stderr
    gone = pickle.dumps(MemoryStore())
    with pytest.raises(StoreUnavailableError, match="no longer exists"):
        pickle.loads(gone)


def test_the_front_door_is_lazy_and_whole() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport holdall\n"
        "new = set(sys.modules) - before\n"
        "assert not [m for m in new if m.startswith('holdall.')], new\n"
        "for name in holdall.__all__:\n    assert getattr(holdall, name) is not None\n"
        "found = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "outside = {m for m in found if not m.startswith(('_sysconfigdata_', '__mp_main__'))}\n"
        "assert outside <= sys.stdlib_module_names | {'holdall'}, outside\n"
    )
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
    assert set(holdall.__all__) <= set(dir(holdall))
    assert holdall.ObjectStore is holdall.Store
    assert holdall.DictStore is holdall.MemoryStore
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        holdall.nope  # type: ignore[attr-defined]  # noqa: B018


SCHEMES = ("memory", "file", "hashdir", "sqlite", "zip", "git+file", "valkey", "redis", "rediss", "unix")
ODD = (
    "\ud800",
    "a\0b",
    "a%00b",
    "%",
    "%zz",
    "%ff",
    "%ed%a0%80",
    "x" * 5000,
    "/" + "y/" * 3000,
    "x" * 300,
    "host:port",
    "host:99999999",
    "host:-1",
    "host:1_0",
    "user:hunter2@host:port",
    "user:hunter2@[::1",
    "[",
    "[::1",
    "[not an address]:6379",
    "host/notanumber",
    "..",
    "//",
    "\x7f\x01",
    "a?",
    "a?b",
    "a?=",
    "a?%ff=1",
    "a?durable=%zz",
    "a?timeout=nan",
    "a?timeout=1e999",
    "a?timeout=-1",
    "a?width=99999999999999999999",
    "a?width=" + "9" * 5000,
    "a?" + "&".join(f"o{number}=1" for number in range(2000)),
    "é" * 64 + ".example",
    "." * 70,
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_odd_uri_gives_another_error_than_ours(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for odd in ODD:
        for uri in (f"{scheme}://{odd}", f"{scheme}:///{odd}", f"{scheme}:{odd}", odd, f"./{odd}"):
            if uri.startswith(("..", "//")):
                continue
            try:
                Store.from_uri(uri).close()
            except holdall.StoreError as error:
                assert "hunter2" not in f"{error}{error!r}{error.__cause__!r}"  # noqa: PT017


def test_wrong_types_are_typed_errors(tmp_path: Path) -> None:
    for wrong in (None, 5, b"bytes", ["list"], object(), {"uri": 1}):
        with pytest.raises(InvalidArgumentError):
            Store.from_uri(wrong)  # type: ignore[arg-type]
        for kind in (FilesystemStore, HashdirStore, SqliteStore, ZipStore, holdall.GitStore):
            with pytest.raises(InvalidArgumentError):
                kind(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [FilesystemStore, HashdirStore, SqliteStore, ZipStore, holdall.GitStore])
def test_stores_of_a_path_take_no_uri(
    kind: type[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("s3://user:hunter2@bucket/key", "sqlite:///x.db", "file:///x", Path("s3://bucket"), "gs://x"):
        with pytest.raises(InvalidArgumentError, match=r"got a URI .*Store\.from_uri") as caught:
            kind(uri)  # type: ignore[call-arg]
        assert "hunter2" not in str(caught.value)
    for wrong in ("", "a\0b", "\ud800", "x" * 5000):
        with pytest.raises(InvalidArgumentError, match="can't be the path of"):
            kind(wrong)  # type: ignore[call-arg]
    assert os.listdir() == []


@pytest.mark.parametrize("scheme", ["", "file://", "hashdir://", "sqlite:///", "zip://"])
def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    for folder in (home, cwd):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(cwd)
    with Store.from_uri(f"{scheme}~/kept/x") as store:
        store["a"] = b"1"
    assert (home / "kept" / "x").exists()
    assert not list(cwd.iterdir())
    with Store.from_uri(f"{scheme}./~/x") as store:
        store["a"] = b"2"
    assert (cwd / "~" / "x").exists()


def test_a_working_folder_that_was_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    opened: list[Callable[[], object]] = [
        *(
            partial(Store.from_uri, uri)
            for uri in ("a", "hashdir://a", "sqlite:///a", "zip://a", "git+file://a")
        ),
        lambda: holdall.BlobStore("a"),
        lambda: holdall.copy_store(MemoryStore({"a": b""}), MemoryStore(), journal="a"),
    ]
    for each in opened:
        with pytest.raises(StoreUnavailableError, match="the working folder was deleted"):
            each()


def test_a_password_behind_one_slash_is_not_shown() -> None:
    with pytest.raises(InvalidArgumentError, match="neither a URI nor a path") as raised:
        Store.from_uri("redis:/user:secret@host/0")
    assert "secret" not in str(raised.value)
