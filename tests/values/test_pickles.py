"""Pickles are read only if they are signed with the own key, or by the user's word."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import InvalidArgumentError, SerializationError, UntrustedDataError
from holdall.values.pickles import PickleSerializer

KEY = b"k" * 32
signed = PickleSerializer(KEY)
trusting = PickleSerializer(mode="trust")


class Trap:
    """Its pickle makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def encoded(serializer: PickleSerializer, value: object) -> bytes:
    return b"".join(serializer.encode(value))


@settings(deadline=None)
@given(
    st.recursive(
        st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner) | st.tuples(inner, inner)
    )
)
def test_values_come_back(value: object) -> None:
    assert signed.decode(encoded(signed, value)) == value
    assert trusting.decode(encoded(trusting, value)) == value
    assert pickle.loads(encoded(trusting, value)) == value


@settings(deadline=None)
@given(st.binary())
def test_nothing_unsigned_is_unpickled(data: bytes) -> None:
    for form in (data, b"hldpick1" + data, b"hldpick1" + data + bytes(32)):
        with pytest.raises(UntrustedDataError):
            signed.decode(form)


@settings(deadline=None)
@given(st.binary())
def test_what_is_no_pickle_gives_a_serialization_error(data: bytes) -> None:
    # Only forms that can't be a pickle: the stop code is missing.
    with pytest.raises(SerializationError):
        trusting.decode(data.replace(b".", b""))


def test_a_foreign_or_changed_pickle_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trap = Trap(path)
    bare = pickle.dumps(trap)
    foreign = encoded(PickleSerializer(b"x" * 32), trap)
    moved = bytearray(encoded(signed, "a harmless value"))
    moved[8:-32] = bare
    own = bytearray(encoded(signed, trap))
    changes = []
    for at in (0, 8, len(own) // 2, len(own) - 33, len(own) - 1):
        changed = bytearray(own)
        changed[at] ^= 1
        changes.append(changed)
    for data in (bare, foreign, moved, *changes, own[:-1], own + b"\0"):
        with pytest.raises(UntrustedDataError):
            signed.decode(data)
        assert not path.exists()
    signed.decode(own)
    assert path.exists()


@pytest.mark.parametrize(
    ("serializer", "says"), [(PickleSerializer(), "key"), (PickleSerializer(KEY, "never"), "never")]
)
def test_without_a_key_nothing_is_written_or_read(serializer: PickleSerializer, says: str) -> None:
    assert not serializer.accepts([1])
    for call in (serializer.encode, serializer.decode):
        with pytest.raises(UntrustedDataError, match=says):
            call(encoded(trusting, 1))


def test_what_cannot_be_pickled_is_a_serialization_error() -> None:
    for value in (lambda: 1, (each for each in [1])):
        with pytest.raises(SerializationError, match="pickled"):
            signed.encode(value)


def test_bad_arguments_are_refused_and_the_key_is_not_shown() -> None:
    for arguments in ({"key": b"short"}, {"key": "a" * 32}, {"mode": "always"}):
        with pytest.raises(InvalidArgumentError):
            PickleSerializer(**arguments)  # type: ignore[arg-type]
    assert "kkk" not in repr(signed)


def test_a_key_that_would_sign_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="signs nothing"):
        PickleSerializer(b"k" * 16, mode="trust")
