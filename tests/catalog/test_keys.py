"""The user's own key: what a user wrote is read back with no setting, and nobody else's pickles are."""

from __future__ import annotations

import base64
import logging
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.forks import succeeds_as_nobody

from holdall import InvalidArgumentError, SerializationError, StoreUnavailableError, UntrustedDataError
from holdall.catalog.content import Formats
from holdall.userkey import user_key
from holdall.values.pickles import PickleSerializer

VALUE = range(7)
ran: list[str] = []


class Attack:
    def __reduce__(self) -> Any:
        return ran.append, ("attack",)


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HOLDALL_PICKLE_KEY", raising=False)
    return tmp_path / "config/holdall"


def stored(formats: Formats, value: object = VALUE) -> bytes:
    content = formats.encode(value)
    assert (content.format, content.codec) == ("pickle", "")
    return b"".join(map(bytes, content.pieces))


def read(formats: Formats, data: bytes) -> Any:
    return formats.decode("pickle", "", "", data)


def test_the_key_is_made_at_the_first_need(settings: Path) -> None:
    formats = Formats()
    formats.encode({"a": 1})
    assert not settings.exists()
    data = stored(formats)
    key = settings / "pickle.key"
    assert len(base64.b64decode(key.read_text())) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.stat().st_mode) == 0o700
    assert os.listdir(settings) == ["pickle.key"]
    # Another process of the same user.
    assert read(Formats(), data) == VALUE
    assert stored(Formats()) == data


def test_no_key_is_made_to_read(settings: Path) -> None:
    data = stored(Formats(pickle_key=bytes(range(32))))
    with pytest.raises(UntrustedDataError, match=r"no key yet.*pickles='trust'"):
        read(Formats(), data)
    assert not settings.exists()


def test_processes_agree_on_one_key(settings: Path) -> None:
    code = "from holdall.catalog.content import Formats; print(Formats().encode(range(9)).digest)"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert len({run.communicate()[0] for run in runs}) == 1
    assert all(run.returncode == 0 for run in runs)
    assert os.listdir(settings) == ["pickle.key"]


def test_a_race_for_the_key_has_one_winner(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def beaten(source: str, target: str) -> None:
        Path(target).write_text(base64.b64encode(bytes(range(1, 33))).decode())
        Path(target).chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    data = stored(Formats())
    assert read(Formats(pickle_key=bytes(range(1, 33))), data) == VALUE
    assert os.listdir(settings) == ["pickle.key"]


@pytest.mark.parametrize("form", ["base64", "file", "env"])
def test_the_variable_gives_another_key(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Path
) -> None:
    text = base64.b64encode(bytes(range(1, 33))).decode()
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("OTHER", text)
    given = {"base64": text, "file": f"file:{tmp_path}/key", "env": "env:OTHER"}[form]
    monkeypatch.setenv("HOLDALL_PICKLE_KEY", given)
    data = stored(Formats())
    assert not settings.exists()
    assert read(Formats(pickle_key=bytes(range(1, 33))), data) == VALUE
    monkeypatch.setenv("HOLDALL_PICKLE_KEY", "too short")
    with pytest.raises(InvalidArgumentError, match=r"HOLDALL_PICKLE_KEY.* isn't a key") as error:
        Formats().encode(VALUE)
    assert "too short" not in str(error.value)


def test_a_home_that_cant_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreUnavailableError, match="set HOLDALL_PICKLE_KEY"):
        Formats().encode(VALUE)
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stored(Formats())
    assert (tmp_path / "home/.config/holdall/pickle.key").exists()
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert user_key(make=False) is None
    with pytest.raises(StoreUnavailableError, match=r"no home folder.*HOLDALL_PICKLE_KEY"):
        Formats().encode(VALUE)
    # What needs no key needs no home.
    assert Formats().encode({"a": 1}).format == "json"
    assert Formats(pickles="trust").encode(VALUE).format == "pickle"


def test_a_key_that_others_could_have_written(settings: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = stored(Formats())
    key = settings / "pickle.key"
    key.chmod(0o644)
    with caplog.at_level(logging.WARNING, "holdall.keys"):
        assert read(Formats(), data) == VALUE
    assert "chmod 600" in caplog.text
    key.chmod(0o620)
    with pytest.raises(UntrustedDataError, match="chmod go-w"):
        read(Formats(), data)
    key.chmod(0o600)
    settings.chmod(0o777)
    with pytest.raises(UntrustedDataError, match="chmod go-w"):
        Formats().encode(VALUE)
    settings.chmod(0o700)


@pytest.mark.parametrize("text", ["", "\n", "not a key", "00" * 32])
def test_a_damaged_key_is_named(text: str, settings: Path) -> None:
    settings.mkdir(parents=True)
    (settings / "pickle.key").write_text(text)
    (settings / "pickle.key").chmod(0o600)
    with pytest.raises(InvalidArgumentError, match=r"pickle\.key"):
        Formats().encode(VALUE)


def test_the_pickles_of_a_stranger_arent_read() -> None:
    mine, theirs = bytes([1]) * 32, bytes([2]) * 32
    data = stored(Formats(pickle_key=theirs), Attack())
    bare = pickle.dumps(Attack())
    elsewhere = b"".join(PickleSerializer(mine).encode(Attack()))
    for attack in (data, bare, elsewhere, b"", data[:30]):
        for formats in (Formats(), Formats(pickle_key=mine)):
            stored(formats)
            with pytest.raises(UntrustedDataError, match=r"pickle_key=\{'mine'.*pickles='trust'"):
                read(formats, attack)
        with pytest.raises(UntrustedDataError, match="'never'"):
            read(Formats(pickles="never"), attack)
    assert ran == []
    both = Formats(pickle_key={"mine": mine, "theirs": theirs})
    value = stored(Formats(pickle_key=theirs))
    assert read(both, value) == VALUE
    assert read(Formats(pickle_key=mine), stored(both)) == VALUE


def test_no_bit_of_a_pickle_can_be_changed() -> None:
    formats = Formats()
    data = stored(formats)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(UntrustedDataError):
            read(formats, bytes(changed))


def test_trust_reads_all_pickles() -> None:
    trusting = Formats(pickles="trust")
    data = stored(trusting)
    assert pickle.loads(data) == VALUE
    assert read(trusting, data) == VALUE
    assert read(trusting, stored(Formats())) == VALUE
    with pytest.raises(SerializationError, match="isn't a pickle that can be read"):
        read(trusting, b"nothing")


def test_the_library_of_a_pickle_is_named() -> None:
    import numpy as np

    content = Formats().encode(np.float64(1.5))
    assert content.library == f"numpy {np.__version__}"
    with pytest.raises(SerializationError, match=r"written by numpy 99\.0; the installed .* is older: pip"):
        Formats(pickles="trust").decode("pickle", "", "numpy 99.0", b"nothing")


def test_a_home_without_rights_and_the_key_of_another_user() -> None:
    def work(home: Path) -> None:
        del os.environ["XDG_CONFIG_HOME"]
        (home / ".config").mkdir(mode=0o500)
        with pytest.raises(StoreUnavailableError, match=r"Permission denied; set HOLDALL_PICKLE_KEY"):
            Formats().encode(VALUE)
        assert os.listdir(home / ".config") == []
        # A folder of root's is as good as one's own; that of anybody else isn't.
        os.environ["XDG_CONFIG_HOME"] = str(home / "mine")
        data = stored(Formats())
        assert read(Formats(), data) == VALUE
        os.geteuid = lambda: 12345
        with pytest.raises(UntrustedDataError, match="belongs to another user"):
            Formats().encode(VALUE)

    succeeds_as_nobody(work)
