"""YAML comes back as it was, or is refused; no tag runs anything, and no document ends the process."""

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import SerializationError
from holdall.values.same import same
from holdall.values.yaml import YamlSerializer

serializer = YamlSerializer()


def again(value: object) -> Any:
    return serializer.decode(b"".join(serializer.encode(value)))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text("0123456789:-_.eEx+~=<>#'\"!&*|%@` \n\t[]{}?", max_size=8)
    | st.sampled_from(
        ["NO", "on", "null", "~", "1:30", "0x1F", "1e3", ".inf", "2026-01-01", "=", "<<", "é", "😀"]
    )
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-3))))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(values)
def test_what_is_written_comes_back_the_same(value: object) -> None:
    try:
        data = b"".join(serializer.encode(value))
    except SerializationError as error:
        if "YAML" not in str(error):
            raise
    else:
        assert same(serializer.decode(data), value)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ada", "tags": ["a", "NO", "1:30", "", "null"], "n": {"x": 1, 2: None}},
        {"when": datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "day": date(2026, 1, 2), "raw": b"\xff\0"},
        {"a", "b"},
        [1.5, 1e16, float("inf"), float("nan"), -0.0, 10**30],
        "line\nline\n  indented\n",
        None,
        [["shared"]] * 2,
    ],
)
def test_common_values_come_back(value: object) -> None:
    assert same(again(value), value)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        [Decimal(1)],
        object(),
        [print],
        "\ud800",
        bytearray(b"a"),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=7))),
    ],
)
def test_what_it_would_change_is_refused(value: object) -> None:
    with pytest.raises(SerializationError, match="YAML"):
        serializer.encode(value)


def test_merge_keys_are_read() -> None:
    text = b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}"
    assert serializer.decode(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2, "z": 4},
    }


def test_no_tag_runs_anything(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for text in (
        f"!!python/object/apply:os.mkdir ['{path}']",
        f"!!python/object/new:pathlib.Path ['{path}']",
        "!!python/name:os.system",
        "!other {}",
    ):
        with pytest.raises(SerializationError, match="YAML"):
            serializer.decode(text.encode())
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\t- a",
        "a: 1\n---\nb: 2",
        "2026-13-45",
        "!!int ''",
        "!!bool x",
        "!!timestamp x",
        "!!float ''",
        "!!binary é",
        "{[]: 1, {}: 2}",
        "*a",
        "%",
        "\x00",
        "- a\nb",
        "!!int _",
    ],
)
def test_bad_documents_are_refused(text: str) -> None:
    with pytest.raises(SerializationError, match="YAML"):
        serializer.decode(text.encode())


@settings(deadline=None)
@given(
    st.binary()
    | st.text("0123456789:-_.ex+~=<>#'\"!&*|%@` \n\t[]{}?abinty", max_size=40).map(str.encode)
    | values.map(lambda value: yaml.safe_dump(value).encode())
)
def test_any_bytes_give_a_value_or_a_serialization_error(data: bytes) -> None:
    try:
        serializer.decode(data)
    except SerializationError as error:
        if "YAML" not in str(error):
            raise


def test_depth_and_merges_do_not_end_the_process() -> None:
    code = """
from holdall import SerializationError
from holdall.values.yaml import YamlSerializer
merges = "a0: &a0 {x: 1}\\n"
merges += "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\\n" for n in range(1, 60))
many = "a: &a {x: 1}\\nb: {<<: [" + "*a, " * 100_000 + "*a]}"
deep = ["[" * 100_000, "- " * 100_000 + "a", "? " * 100_000, "{a: " * 100_000]
for text in (*deep, merges, many, "&a {<<: *a}"):
    try:
        YamlSerializer().decode(text.encode())
    except SerializationError:
        continue
    raise SystemExit("it was read")
cycle = []
cycle.append(cycle)
deep = ['a']
for _ in range(100_000):
    deep = [deep]
for value in (cycle, deep):
    try:
        YamlSerializer().encode(value)
    except SerializationError:
        continue
    raise SystemExit("it was written")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_aliases_that_stand_for_billions_are_refused() -> None:
    lines = ["a0: &a0 [" + ", ".join("x" * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 10)]
    with pytest.raises(SerializationError, match="aliases"):
        serializer.decode("\n".join(lines).encode())
    few = serializer.decode("\n".join(lines[:4]).encode())
    assert few["a3"][9][9] == [["x"] * 10] * 10
    assert serializer.decode(b"a: &a [1]\nb: {<<: {c: 2}, d: *a}") == {"a": [1], "b": {"c": 2, "d": [1]}}
    itself = serializer.decode(b"&a [1, *a]")
    assert itself[1] is itself


def test_a_number_of_a_million_digits_is_refused_and_a_text_of_them_is_not() -> None:
    digits = "1" + ":1" * 1_000_000
    with pytest.raises(SerializationError, match="too long"):
        serializer.decode(f"a: {digits}".encode())
    assert serializer.decode(f"a: '{digits}'".encode()) == {"a": digits}
    assert serializer.decode(b"1:30") == 90


def test_what_yaml_would_change_is_refused_by_its_place() -> None:
    for value, words in (
        ({"a": [1, (2,)]}, r"\['a'\]\[1\] would come back as a list, not as a tuple"),
        ({"a": {"b": object()}}, r"an object at \['a'\]\['b'\]"),
        ({"at": time(9, tzinfo=ZoneInfo("Europe/Berlin"))}, r"a datetime.time at \['at'\]"),
    ):
        with pytest.raises(SerializationError, match=words):
            YamlSerializer().encode(value)
    for fold in (0, 1):
        at = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
        back = YamlSerializer().decode(YamlSerializer().encode({"at": at})[0])
        assert back["at"].astimezone(UTC) == at.astimezone(UTC)
