"""Pickles are read only if they are signed with the own key, or by the user's word."""

import hmac
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import InvalidArgumentError, SerializationError, UnsupportedOperation, UntrustedDataError
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
    known = bytes.fromhex(signed.fingerprints()["default"])
    for form in (
        data,
        b"hldpick2" + data,
        b"hldpick1" + data + bytes(32),
        b"hldpick2" + known + data + bytes(32),
    ):
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
    moved[16:-32] = bare
    own = bytearray(encoded(signed, trap))
    changes = []
    for at in range(len(own)):
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
    for arguments in (
        {"key": b"short"},
        {"key": "a" * 32},
        {"key": b"k" * 16},
        {"key": bytes(32)},
        {"mode": "always"},
    ):
        with pytest.raises(InvalidArgumentError):
            PickleSerializer(**arguments)  # type: ignore[arg-type]
    assert "kkk" not in repr(signed)


def test_a_key_that_would_sign_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="signs nothing"):
        PickleSerializer(KEY, mode="trust")


def test_the_form_is_the_one_that_is_told() -> None:
    def expand(secret: bytes, info: bytes) -> bytes:
        return hmac.digest(secret, info + b"\x01", "sha256")

    secret = hmac.digest(bytes(32), KEY, "sha256")
    fingerprint = expand(secret, b"holdall key check 1\0pickles")[:8]
    data = encoded(signed.bound("prod", "a/b"), "a value")
    pickled = pickle.dumps("a value", protocol=5)
    context = (4).to_bytes(8) + b"prod" + (3).to_bytes(8) + b"a/b"
    told = b"holdall pickle 2\0" + fingerprint
    for part in (context, pickled):
        told += len(part).to_bytes(8) + part
    tag = hmac.digest(expand(secret, b"holdall pickle key 2\0"), told, "sha256")
    assert data == b"hldpick2" + fingerprint + pickled + tag


def test_a_value_cannot_take_the_place_of_another(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "run")
    here = signed.bound("prod", "role")
    data = encoded(here, trap)
    for other in (
        signed,
        signed.bound("prod", "name"),
        signed.bound("test", "role"),
        signed.bound("prodrole", ""),
    ):
        with pytest.raises(UntrustedDataError, match="another place"):
            other.decode(data)
        with pytest.raises(UntrustedDataError, match="another place"):
            here.decode(encoded(other, trap))
    assert not (tmp_path / "run").exists()
    for name in (1, "\ud800", None):
        with pytest.raises(InvalidArgumentError):
            signed.bound("prod", name)  # type: ignore[arg-type]


def test_what_is_checked_is_what_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(encoded(signed, "a harmless value of some length" * 10))
    trap = pickle.dumps(Trap(tmp_path / "run"))
    real = hmac.compare_digest

    def swapped(one: bytes, other: bytes) -> bool:
        found = real(one, other)
        data[16 : 16 + len(trap)] = trap
        return found

    monkeypatch.setattr("holdall.values.pickles.hmac.compare_digest", swapped)
    assert signed.decode(memoryview(data)) == "a harmless value of some length" * 10
    assert not (tmp_path / "run").exists()


def test_keys_rotate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_KEY", KEY.hex())
    (tmp_path / "key").write_text((b"n" * 32).hex())
    (tmp_path / "key").chmod(0o600)
    keys = {"old": "env:A_KEY", "new": f"file:{tmp_path / 'key'}"}
    both = PickleSerializer(keys, current="new")
    assert both.decode(encoded(signed, 1)) == 1
    new = PickleSerializer(b"n" * 32)
    assert new.decode(encoded(both, 2)) == 2
    with pytest.raises(UntrustedDataError, match=r"another key, [0-9a-f]{16}, .* 'default' = [0-9a-f]{16}"):
        new.decode(encoded(signed, 1))
    with pytest.raises(InvalidArgumentError, match="current"):
        PickleSerializer(keys)
    with pytest.raises(InvalidArgumentError, match="same key"):
        PickleSerializer({"a": KEY, "b": "env:A_KEY"}, current="a")
    again = pickle.loads(pickle.dumps(both.bound("a", "b")))
    assert repr(again) == repr(both.bound("a", "b"))
    assert KEY.hex() not in repr(pickle.dumps(both))
    assert KEY not in pickle.dumps(both)


def test_a_key_as_bytes_is_in_no_pickle() -> None:
    for serializer in (signed, PickleSerializer({"a": KEY, "b": b"x" * 32}, current="a")):
        with pytest.raises(UnsupportedOperation, match="'env:NAME'"):
            pickle.dumps(serializer)
    assert repr(PickleSerializer.__new__(PickleSerializer)) == "PickleSerializer(mode='signed')"
    assert KEY.hex() not in repr(vars(signed))
    assert repr(KEY)[2:-1] not in repr(vars(signed))
