"""get_store: where its defaults come from, what it refuses, and what it closes."""

import pickle
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import (
    BlobNotFoundError,
    ExpiringStore,
    FilesystemStore,
    InvalidArgumentError,
    InvalidTypeError,
    MemoryStore,
    StoreClosedError,
    UnsupportedOperation,
    ValueStore,
    get_store,
)
from holdall.settings import expand

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine counts, and a mistyped variable is an error."""
    import os

    for name in [name for name in os.environ if name.startswith("HOLDALL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    def made(text: str) -> Path:
        path = tmp_path / "work" / "holdall.toml"
        path.write_text(text)
        return path

    return made


def test_a_store_of_values() -> None:
    with get_store("data") as store:
        assert type(store) is ValueStore
        assert store.serialization_mode == "auto"
        store["a/b.txt"] = "text"
        store["c"] = {"x": 1}
    assert Path("data/a/b.txt").read_text() == "text"
    with pytest.raises(StoreClosedError):
        store["c"]
    for given in (Path("data"), "file://data", "./data"):
        assert get_store(given)["c"] == {"x": 1}


def test_an_open_store_stays_open() -> None:
    below = MemoryStore({"a": b"1"})
    with get_store(below, serialization_mode="json") as store:
        assert store["a"] == 1
        assert store.store is below
    assert below["a"] == b"1"
    with pytest.raises(InvalidArgumentError, match="an open store takes no options of a URI, got 'prefix'"):
        get_store(below, prefix="a")


def test_without_a_uri_it_says_what_to_do() -> None:
    with pytest.raises(InvalidArgumentError, match=r"no store was named: .*HOLDALL_URI.*\[defaults\]"):
        get_store()


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_URI", "sqlite:///data.db")
    monkeypatch.setenv("HOLDALL_SERIALIZATION_MODE", "json")
    monkeypatch.setenv("HOLDALL_DEFAULT_TTL", "60")
    monkeypatch.setenv("HOLDALL_RAISE_ON_NONEXIST", "yes")
    monkeypatch.setenv("HOLDALL_BACKEND_CONFIG__TIMEOUT", "7")
    monkeypatch.setenv("HOLDALL_BACKEND_CONFIG__DURABLE", "1")
    with get_store() as store:
        assert store.serialization_mode == "json"
        with pytest.raises(BlobNotFoundError):
            store.get("a")
        store["a"] = 1
        assert store.info("a").expires is not None
        assert "timeout=7" in repr(store)
        assert "durable=True" in repr(store)
    # What a call says takes precedence; the options belong to the default URI.
    with get_store("memory://", serialization_mode="raw", raise_on_nonexist=False, default_ttl=0) as store:
        assert store.serialization_mode == "raw"
        assert store.get("a") is None
        store["a"] = b""
        assert store.info("a").expires is None
    with get_store(timeout=8, default_ttl=timedelta(days=1)) as store:
        assert "timeout=8" in repr(store)


def test_the_file(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(
        '[defaults]\nuri = "sub/${NAME:-data}"\nserialization_mode = "raw"\ndefault_ttl = 60\n'
        'raise_on_nonexist = true\nbackend_config = {prefix = "p"}\n[stores.pad]\nuri = "memory://"'
    )
    (tmp_path / "work" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "work" / "below")
    with get_store() as store:
        store["a"] = "text"
        assert store["a"] == b"text"
        with pytest.raises(BlobNotFoundError):
            store.get("b")
    assert (tmp_path / "work/sub/data/p/a").read_text() == "text"
    monkeypatch.setenv("HOLDALL_SERIALIZATION_MODE", "json")
    with get_store("pad:") as store:
        assert store.serialization_mode == "json"
        assert isinstance(store.store, ExpiringStore)
    monkeypatch.setenv("HOLDALL_URI", "pad:")
    monkeypatch.setenv("HOLDALL_BACKEND_CONFIG__READONLY", "1")
    with get_store() as store:
        assert "prefix" not in repr(store)
        with pytest.raises(UnsupportedOperation):
            store["a"] = 1


def test_the_variables_of_the_file_are_filled_in_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "$${X}")
    write('[defaults]\nuri = "sub/${NAME}"\nbackend_config = {durable = true}')
    with get_store() as store:
        store["a"] = 1
    assert [path.name for path in Path("sub").iterdir()] == ["$${X}"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("uri = 5", r"defaults\.uri: expected a string, got a number"),
        ("uir = 'x'", r"defaults\.uir: unknown; known are uri, .*did you mean 'uri'"),
        ("raise_on_nonexist = 'maybe'", r"defaults\.raise_on_nonexist: expected a boolean"),
        (
            "serialization_mode = 'jsn'",
            r"defaults\.serialization_mode: .* one of 'raw'",
        ),
        ("backend_config = 5", r"defaults\.backend_config: expected a table of options"),
        ("uri = '${UNSET_THING}'", r"defaults\.uri: the environment variable UNSET_THING isn't set"),
    ],
)
def test_what_is_wrong_in_the_file_names_it(text: str, says: str, write: Write) -> None:
    path = write(f"[defaults]\n{text}")
    with pytest.raises(InvalidArgumentError, match=f"{path}: {says}"):
        get_store("memory://")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HOLDALL_SERIALIZATION_MODE", "jsn", "HOLDALL_SERIALIZATION_MODE: .*'raw', 'auto'.* not 'jsn'"),
        ("HOLDALL_DEFAULT_TTL", "soon", "HOLDALL_DEFAULT_TTL: .* is a number, not 'soon'"),
        ("HOLDALL_DEFAULT_TTL", "-5", "HOLDALL_DEFAULT_TTL: .*more than 0"),
        ("HOLDALL_RAISE_ON_NONEXIST", "maybe", "HOLDALL_RAISE_ON_NONEXIST: .* true or false, not 'maybe'"),
        ("HOLDALL_URI", "nope://x", "unknown scheme 'nope'"),
        ("HOLDALL_URI", "data/${UNSET_THING}", "the environment variable UNSET_THING, which the URI names"),
        (
            "HOLDALL_BACKEND_CONFIG__NOPE",
            "1",
            "no option 'nope'; known are .*readonly.*HOLDALL_BACKEND_CONFIG",
        ),
        ("HOLDALL_BACKEND_CONFIG__", "1", "the name of an option after each '__'"),
        ("HOLDALL_BACKEND_CONFIG__READONLY", "maybe", "true or false, not 'maybe'"),
        ("HOLDALL_BACKEND_CONFIG__READONLY__NOW", "1", "'readonly' is one value, not a table of values"),
    ],
)
def test_what_is_wrong_in_the_environment_names_it(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDALL_URI", "memory://")
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidArgumentError, match=says):
        get_store()


def test_what_is_wrong_in_the_call_names_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_SERIALIZATION_MODE", "json")
    monkeypatch.setenv("HOLDALL_DEFAULT_TTL", "60")
    wrong: list[dict[str, Any]] = [
        {"pickles": "all"},
        {"raise_on_nonexist": "no"},
        {"default_ttl": -1},
        {"default_ttl": ""},
        {"default_ttl": []},
        {"default_ttl": "60"},
    ]
    for options in wrong:
        with pytest.raises(InvalidArgumentError) as caught:
            get_store(f"sqlite:////{tmp_path}/never.db", **options)
        assert "HOLDALL" not in str(caught.value)
    assert not (tmp_path / "never.db").exists()
    for forever in (0, 0.0, timedelta()):
        assert not isinstance(get_store("memory://", default_ttl=forever).store, ExpiringStore)


def test_two_variables_for_one_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_URI", "memory://")
    for names in (("a", "A"), ("a__b", "A"), ("a", "A__B")):
        with monkeypatch.context() as patch:
            for name in names:
                patch.setenv(f"HOLDALL_BACKEND_CONFIG__{name}", "1")
            with pytest.raises(InvalidArgumentError, match="by another variable too"):
                get_store()


@pytest.mark.parametrize(
    "name",
    [
        "HOLDALL_URL",
        "HOLDALL_MODE",
        "HOLDALL_TTL",
        "HOLDALL_SERIALISATION_MODE",
        "HOLDALL_RAISE_ON_NON_EXIST",
        "HOLDALL_BACKEND_CONFIG_TABLE",
    ],
)
def test_a_mistyped_variable_is_a_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.warns(UserWarning, match=f"{name} isn't a setting .*known are HOLDALL_URI, ") as caught:
        get_store("memory://")
    assert caught[0].filename == __file__


def test_other_variables_are_no_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOLDALL_CONFIG", "HOLDALL_KEY", "HOLDALL_PICKLE_KEY", "HOLDALL_CATALOG", "HOLDALL_DEBUG"):
        monkeypatch.setenv(name, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_store("memory://")


def test_an_unknown_option_lists_those_known() -> None:
    with pytest.raises(InvalidArgumentError, match=r"no option 'mode'; known are durable.* get_store itself"):
        get_store("sqlite:///x.db", mode="json")
    with pytest.raises(InvalidArgumentError, match="given twice, also in backend_config"):
        get_store("sqlite:///x.db", timeout=1, backend_config={"timeout": 2})
    with pytest.raises(InvalidTypeError, match="backend_config must be a dict of options, not str"):
        get_store("sqlite:///x.db", backend_config="timeout=1")
    with pytest.raises(InvalidTypeError, match="raise_on_nonexist must be True, False or None, not int"):
        get_store("sqlite:///x.db", raise_on_nonexist=1)
    with pytest.raises(TypeError, match="positional"):
        get_store("sqlite:///x.db", "json")  # type: ignore[misc]
    assert not list(Path().iterdir())


def test_variables_in_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "data")
    monkeypatch.setenv("EMPTY", "")
    assert expand("a/${NAME}/$NAME/$${NAME}/${EMPTY:-x}/${UNSET_THING:-}") == "a/data/$NAME/${NAME}/x/"
    assert expand("${EMPTY}b") == "b"
    with pytest.raises(InvalidArgumentError, match="begins no variable"):
        expand("${}")
    with pytest.raises(InvalidArgumentError, match=r"UNSET_THING, .*\$\{UNSET_THING:-default\}"):
        get_store("data/${UNSET_THING}")
    with get_store("${NAME}") as store:
        assert isinstance(store.store, FilesystemStore)
        store["a"] = 1
    assert Path("data/a").exists()


def test_a_default_ttl_holds_in_every_store() -> None:
    with get_store("data", default_ttl=3600) as store:
        assert isinstance(store.store, ExpiringStore)
        store["a"] = 1
        assert store["a"] == 1
    again = pickle.loads(pickle.dumps(store))
    again.close()
    below = MemoryStore()
    get_store(below, default_ttl=60).close()
    below["a"] = b"1"
    with get_store("memory://", default_ttl=3600) as store:
        assert store.put("a", 1, ttl=10).expires < store.put("b", 1).expires  # type: ignore[operator]


def test_it_goes_to_another_process() -> None:
    with get_store("data", serialization_mode="typed", raise_on_nonexist=True) as store:
        store["a"] = (1, 2)
        again = pickle.loads(pickle.dumps(store))
    assert again["a"] == (1, 2)
    assert (again.serialization_mode, again.get.__self__._raises) == ("typed", True)
    again.close()
    with pytest.raises(StoreClosedError):
        again["a"]


def test_the_calls_of_the_store_below(tmp_path: Path) -> None:
    store = get_store(tmp_path)
    store["a.txt"] = "text"
    assert store.checksum("a.txt") == store.store.checksum("a.txt")
    assert store.touch("a.txt").size == 4
    with store.local("a.txt") as path:
        assert path.read_text() == "text"
    assert store.counter("hits").increment() == 1
    with store.lock("lock") as lock:
        assert lock.token
    with holdall.virtual.open_virtual("a.txt", store) as file:
        assert file.read() == b"text"


def test_where_bytes_are_wanted_the_error_says_which_store_to_give() -> None:
    values = get_store("memory://")
    with pytest.raises(InvalidTypeError, match=r"not ValueStore; of a ValueStore give \.store"):
        holdall.copy_store(values, MemoryStore())  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match=r"not ValueStore; .* has one as \.store"):
        holdall.CompressedStore(values)  # type: ignore[arg-type]


def test_it_is_at_the_front_door() -> None:
    values: Any = holdall.get_store("memory://")
    assert isinstance(values, holdall.ValueStore)
