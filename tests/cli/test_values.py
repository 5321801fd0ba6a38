"""Values by serialization mode on a command line: get, put and stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Holdall

from holdall import ValueStore, get_store


@pytest.fixture
def values(holdall: Holdall, tmp_path: Path) -> ValueStore:
    """The store of the command, as Python has it; the key that signs pickles is the test's own."""
    holdall.env["XDG_CONFIG_HOME"] = str(tmp_path / "settings")
    return get_store(tmp_path / "store")


def test_what_was_put_in_a_mode_is_what_python_gets(holdall: Holdall, values: ValueStore) -> None:
    text = '{"volume": 11, "names": ["a", null]}'
    for mode in ("json", "auto", "typed", "yaml"):
        holdall("put", "settings", text, "-m", mode)
        assert values.get("settings", serialization_mode=mode) == json.loads(text)
        shown = holdall("get", "settings", "--serialization-mode", mode)
        assert (json.loads(shown), shown[-1:]) == (json.loads(text), b"\n")
    holdall("put", "signed", "-", "-m", "pickle", stdin=text.encode())
    assert json.loads(holdall("get", "signed", "-m", "auto")) == json.loads(text)
    assert holdall("get", "signed").startswith(b"hldpick")


def test_text_and_bytes_are_printed_as_they_are(holdall: Holdall, values: ValueStore, tmp_path: Path) -> None:
    values["text"] = "caf\u00e9"
    values["number"] = "5"
    values["bytes"] = b"\xff\0"
    assert holdall("get", "text", "-m", "auto") == "caf\u00e9".encode()
    assert (holdall("get", "number"), holdall("get", "number", "-m", "auto")) == (b'"5"', b"5")
    assert holdall("get", "bytes", "-m", "auto") == holdall("get", "bytes", "-m", "raw") == b"\xff\0"
    holdall("get", "text", "-m", "auto", "-o", "file")
    assert (tmp_path / "file").read_text() == "caf\u00e9"
    holdall("put", "word", "hello", "-m", "auto")
    holdall("put", "plain", "hello", "-m", "raw")
    assert holdall("get", "word") == holdall("get", "plain") == b"hello"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("put", "a", '{"x": ', "-m", "json"), "takes the value as JSON"),
        (("put", "a", "[1]", "-m", "npy"), "can't hold this value"),
        (("put", "a", "1", "-m", "frob"), "'typed'"),
        (("get", "a", "-m", "frob"), "'typed'"),
        (("put", "a", b"\xff", "-m", "text"), "isn't UTF-8"),
    ],
)
def test_a_value_that_its_mode_can_not_hold_is_refused_before_anything_is_written(
    holdall: Holdall, values: ValueStore, args: tuple[str, ...], said: str
) -> None:
    values["a"] = "before"
    assert said in holdall.error(*args, code=2)
    assert values["a"] == "before"


def test_what_a_mode_can_not_read_names_the_key_and_the_mode(holdall: Holdall, values: ValueStore) -> None:
    values["a"] = "words"
    error = holdall.error("get", "a", "-m", "json", code=4)
    assert error.startswith("'a': ")
    assert "in mode 'json'" in error
    assert holdall.error("get", "none", "-m", "json", code=1) == "'none': no such blob"


def test_a_pickle_of_somebody_else_is_not_unpickled(holdall: Holdall, values: ValueStore) -> None:
    holdall("put", "signed", "[1]", "-m", "pickle")
    holdall.env["XDG_CONFIG_HOME"] += "-of-another"
    assert "sign" in holdall.error("get", "signed", "-m", "auto", code=4)


def test_lines_are_printed_as_json(holdall: Holdall, values: ValueStore) -> None:
    values["rows.jsonl"] = b'{"a": 1}\r\n\n[2, null]\n"x"'
    assert holdall("stream", "rows.jsonl") == b'{"a":1}\n[2,null]\n"x"\n'
    text = "5\nwords \u00e9\n\n{\n"
    values["log"] = text
    assert list(map(json.loads, holdall("stream", "log").splitlines())) == [5, "words \u00e9", "", "{"]
    assert holdall("stream", "log", "-m", "raw") == text.encode()


def test_rows_of_csv_are_objects(holdall: Holdall, values: ValueStore) -> None:
    values["people.csv"] = 'name,born\nada,1815\n"x, y",\n\n'
    rows = [json.loads(line) for line in holdall("stream", "people.csv").splitlines()]
    assert rows == [{"name": "ada", "born": "1815"}, {"name": "x, y", "born": ""}]
    values["rows"] = values.get("people.csv", serialization_mode="raw")
    lists = [json.loads(line) for line in holdall("stream", "rows", "-m", "csv", "--no-header").splitlines()]
    assert lists[:2] == [["name", "born"], ["ada", "1815"]]


@pytest.mark.parametrize(
    ("data", "args", "said", "code"),
    [
        (b'{"a": 1}\nwords\n', ("rows.jsonl",), "line 2", 4),
        (b"a,b\n1,2\n1,2,3\n", ("rows.csv",), "row 3 has 3 fields", 4),
        (b"a,b\n1\n", ("rows.csv",), "row 2 has 1 field, and the first row has 2;", 4),
        (b"a,a\n1,2\n", ("rows.csv",), "two columns have the same name", 4),
        (b"fine\n\xff\n", ("lines",), "-m raw", 4),
        (b"1\n", ("lines", "-m", "pickle"), "line ends", 2),
        (b"1\n", ("lines", "--no-header"), "csv", 2),
        (b"1\n", ("none",), "no such blob", 1),
    ],
)
def test_a_line_that_can_not_be_printed_is_named(
    holdall: Holdall, values: ValueStore, data: bytes, args: tuple[str, ...], said: str, code: int
) -> None:
    values[args[0] if args[0] != "none" else "other"] = data
    assert said in holdall.both("stream", *args, code=code)[1]
