"""What every typed blob does, whatever it holds."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.blobs import (
    AudioBlob,
    BytesBlob,
    ImageBlob,
    JsonDictBlob,
    JsonModelBlob,
    StrBlob,
    VideoBlob,
    YamlDictBlob,
    blob_class,
)
from holdall.blobs.kinds import ENDINGS
from holdall.errors import InvalidArgumentError, InvalidDataError, SerializationError
from holdall.values.audio import AUDIO
from holdall.values.images import IMAGES
from holdall.values.video import VIDEO

KINDS: list[type[BytesBlob]] = [
    BytesBlob,
    StrBlob,
    JsonDictBlob,
    JsonModelBlob,
    YamlDictBlob,
    AudioBlob,
    ImageBlob,
    VideoBlob,
]
SUFFIX = {
    JsonDictBlob: ".json",
    YamlDictBlob: ".yaml",
    AudioBlob: ".wav",
    ImageBlob: ".png",
    VideoBlob: ".mp4",
}

every = pytest.mark.parametrize("kind", KINDS)


class Named(StrBlob):
    """A blob of a user's own."""

    def __init__(self, blob: Any, *, name: str = "nobody") -> None:
        super().__init__(blob)
        self.name = name

    def shout(self) -> str:
        return self.as_str().upper()


def test_the_hierarchy_is_that_of_the_requirement() -> None:
    assert all(issubclass(kind, BytesBlob) for kind in KINDS)
    for kind in (JsonDictBlob, JsonModelBlob, YamlDictBlob):
        assert issubclass(kind, StrBlob)
    for kind in (AudioBlob, ImageBlob, VideoBlob):
        assert not issubclass(kind, StrBlob)


@every
@pytest.mark.parametrize("data", [b"", b"\xff\x00not what it should be", bytes(range(256)) * 10])
def test_bytes_are_kept_and_not_looked_at(kind: type[BytesBlob], data: bytes) -> None:
    blob = kind(data)
    assert blob.as_bytes() == data
    assert bytes(blob) == data
    assert blob.size == len(data)
    assert repr(blob).startswith(f"{kind.__name__}(")
    assert len(repr(blob)) < 320
    assert pickle.loads(pickle.dumps(blob)) == blob
    assert copy.deepcopy(blob) == blob
    assert type(copy.copy(blob)) is kind
    assert blob


@every
def test_a_buffer_that_changes_later_does_not_change_the_blob(kind: type[BytesBlob]) -> None:
    data = bytearray(b"abc")
    one, two = kind(data), kind(memoryview(data)[1:])
    data[:] = b"xyz"
    assert (one.as_bytes(), two.as_bytes()) == (b"abc", b"bc")
    assert kind(kind(b"abc")) == one


@every
@pytest.mark.parametrize("value", [None, 1, ["a"], {1, 2}, object(), 1.5])
def test_what_no_blob_is_made_of_is_refused(kind: type[BytesBlob], value: Any) -> None:
    with pytest.raises(InvalidDataError, match=f"{kind.__name__} .*{type(value).__name__}"):
        kind(value)
    with pytest.raises(TypeError):
        kind(value)


def test_equality_and_hash_are_of_the_bytes() -> None:
    blobs = [kind(b"same") for kind in KINDS]
    assert all(one == other for one in blobs for other in blobs)
    assert len({*blobs, b"same"}) == 1
    assert BytesBlob(b"same") == b"same"
    assert BytesBlob(b"same") == b"same"
    assert BytesBlob(b"same") == bytearray(b"same")
    assert BytesBlob(b"a") != BytesBlob(b"b")
    assert BytesBlob(b"a") != "a"
    assert BytesBlob(b"a") is not None
    assert {BytesBlob(b"key"): 1}[StrBlob("key")] == 1


@given(st.binary(max_size=300))
def test_base64_comes_back(data: bytes) -> None:
    text = BytesBlob(data).as_b64_str()
    assert text == base64.b64encode(data).decode()
    for kind in KINDS:
        back = kind.from_b64_str(text)
        assert type(back) is kind
        assert back.as_bytes() == data
    assert BytesBlob.from_b64_str(base64.encodebytes(data)) == data
    assert BytesBlob.from_b64_str(base64.encodebytes(data).decode()) == data


@every
def test_what_is_no_text_or_no_bytes_is_refused(kind: type[BytesBlob]) -> None:
    for wrong in (None, 5, ["aGk="]):
        with pytest.raises(InvalidDataError):
            kind.from_b64_str(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError):
        kind.from_bytes("text", compression=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["a", "a===", "ab=c", "\xff\xff", "abc!", "äöü="])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(SerializationError, match="base64"):
        BytesBlob.from_b64_str(text)


@given(st.binary(max_size=300))
def test_compressed_bytes_come_back(data: bytes) -> None:
    packed = BytesBlob(data).as_bytes(compression=True)
    assert StrBlob.from_bytes(packed, compression=True).as_bytes() == data
    assert BytesBlob.from_bytes(data) == data


@pytest.mark.parametrize(
    "data", [b"", b"nothing", b"\x28\xb5\x2f\xfd", BytesBlob(b"a" * 99).as_bytes(compression=True)[:-3]]
)
def test_what_is_not_compressed_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="Zstandard"):
        BytesBlob.from_bytes(data, compression=True)


@every
@pytest.mark.parametrize("other", KINDS)
def test_as_blob_keeps_the_bytes(kind: type[BytesBlob], other: type[BytesBlob]) -> None:
    blob = kind(b"\xffany").as_blob(other)
    assert type(blob) is other
    assert blob.as_bytes() == b"\xffany"


def test_as_blob_passes_arguments_and_takes_classes_of_blobs_only() -> None:
    blob = BytesBlob(b"hi").as_blob(Named, {"name": "Ada"})
    assert (blob.name, blob.shout()) == ("Ada", "HI")
    for wrong in (str, None, blob):
        with pytest.raises(InvalidArgumentError):
            BytesBlob(b"").as_blob(wrong)  # type: ignore[type-var, arg-type]


def test_a_class_of_a_user_is_kept_by_every_way_back(tmp_path: Path) -> None:
    blob = Named("hello", name="Ada")
    assert repr(blob) == "Named('hello')"
    assert pickle.loads(pickle.dumps(blob)).name == "Ada"
    assert type(Named.from_b64_str(blob.as_b64_str())) is Named
    blob.dump(tmp_path / "file.txt")
    assert type(Named.load(tmp_path / "file.txt")) is Named


@every
@pytest.mark.parametrize("spell", [str, Path, lambda path: os.fspath(path)])
def test_a_file_holds_the_bytes(kind: type[BytesBlob], spell: Any, tmp_path: Path) -> None:
    for name in ("plain", "with spaces.and.dots"):
        path = tmp_path / name
        if "." in name:
            path = path.with_name(name + SUFFIX.get(kind, ".bin"))
            data = {".wav": b"RIFF....WAVE", ".png": b"\x89PNG\r\n\x1a\n", ".mp4": b"....ftypisom"}.get(
                path.suffix, b"x"
            )
        else:
            data = b"\xff\0any"
        kind(data).dump(spell(path))
        assert path.read_bytes() == data
        back = kind.load(spell(path))
        assert type(back) is kind
        assert back == data
    assert len([*tmp_path.iterdir()]) == 2


def test_a_file_is_found_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    StrBlob("hello").dump("~/greeting.txt")
    assert (tmp_path / "greeting.txt").read_text() == "hello"
    assert StrBlob.load(Path("~/greeting.txt")) == b"hello"


def test_a_missing_file_or_folder_is_named_as_open_does(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BytesBlob.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as caught:
        BytesBlob(b"").dump(tmp_path / "missing" / "file")
    assert caught.value.filename == str(tmp_path / "missing" / "file")
    with pytest.raises(IsADirectoryError):
        BytesBlob(b"").dump(tmp_path)
    for wrong in (None, 3, b"name", "a\0b"):
        with pytest.raises(InvalidArgumentError):
            BytesBlob(b"").dump(wrong)
        with pytest.raises(InvalidArgumentError):
            BytesBlob.load(wrong)
    assert not [*tmp_path.iterdir()]


def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_open(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"old")
    script.chmod(0o750)
    BytesBlob(b"new").dump(script)
    assert (script.read_bytes(), stat.S_IMODE(script.stat().st_mode)) == (b"new", 0o750)
    (tmp_path / "by open").write_bytes(b"")
    BytesBlob(b"").dump(tmp_path / "by blob")
    assert (tmp_path / "by blob").stat().st_mode == (tmp_path / "by open").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/target")
    BytesBlob(b"first").dump(tmp_path / "link")
    BytesBlob(b"second").dump(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "target").read_bytes() == b"second"


def test_a_dump_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        BytesBlob(b"new").dump(target)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\nfrom holdall.blobs import BytesBlob\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: BytesBlob(b'n' * 5000).dump(sys.argv[1])\nexcept OSError: pass\nelse: raise AssertionError"
    )
    target = tmp_path / "file"
    target.write_bytes(b"old")
    subprocess.run([sys.executable, "-c", script, str(target)], check=True)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_a_reader_sees_one_version_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    versions = [bytes([number]) * 200_000 for number in range(4)]
    BytesBlob(versions[0]).dump(target)
    done = threading.Event()

    def write(data: bytes) -> None:
        for _ in range(30):
            BytesBlob(data).dump(target)

    def read() -> int:
        count = 0
        while not done.is_set():
            assert BytesBlob.load(target).as_bytes() in versions
            count += 1
        return count

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, data) for data in versions]:
            writer.result()
        done.set()
        assert all(reader.result() for reader in readers)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_device_is_written_to(tmp_path: Path) -> None:
    BytesBlob(b"gone").dump("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_other_paths_read_and_write_themselves() -> None:
    class Elsewhere:
        suffix = ".json"
        data = b""

        def read_bytes(self) -> bytes:
            return self.data

        def write_bytes(self, data: bytes) -> int:
            self.data = data
            return len(data)

        def __fspath__(self) -> str:
            raise AssertionError("a copy would be written, not the file")

    place = Elsewhere()
    YamlDictBlob({"a": 1}).dump(place)
    assert place.data == b'{"a":1}'
    assert JsonDictBlob.load(place).as_dict() == {"a": 1}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("notes.txt", StrBlob),
        ("a/b/README.md", StrBlob),
        ("page.html", StrBlob),
        ("table.csv", StrBlob),
        ("drawing.svg", StrBlob),
        ("settings.toml", StrBlob),
        ("app.log", StrBlob),
        ("setup.cfg", StrBlob),
        ("php.ini", StrBlob),
        ("index.rst", StrBlob),
        ("rows.jsonl", StrBlob),
        ("rows.ndjson", StrBlob),
        ("tsconfig.jsonc", StrBlob),
        ("query.sql", StrBlob),
        ("map.geojson", JsonDictBlob),
        ("work.ipynb", JsonDictBlob),
        ("song.m4a", AudioBlob),
        ("song.opus", AudioBlob),
        ("film.mkv", VideoBlob),
        ("data.json", JsonDictBlob),
        ("data.yaml", YamlDictBlob),
        ("data.YML", YamlDictBlob),
        ("photo.JPG", ImageBlob),
        ("photo.jpeg", ImageBlob),
        ("image.png", ImageBlob),
        ("image.webp", ImageBlob),
        ("image.gif", ImageBlob),
        ("image.tiff", ImageBlob),
        ("song.mp3", AudioBlob),
        ("song.wav", AudioBlob),
        ("song.flac", AudioBlob),
        ("song.ogg", AudioBlob),
        ("film.mp4", VideoBlob),
        ("film.webm", VideoBlob),
        ("data.bin", BytesBlob),
        ("data.json.gz", BytesBlob),
        ("no suffix", BytesBlob),
        ("folder.json/file", BytesBlob),
        (".json", BytesBlob),
        ("data:text/plain,x", BytesBlob),
        ("trailing.", BytesBlob),
        ("what?.png", ImageBlob),
    ],
)
def test_a_key_tells_its_type(key: str, kind: type[BytesBlob]) -> None:
    assert blob_class(key) is kind


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("text/plain; charset=utf-8", StrBlob),
        ("Application/JSON", JsonDictBlob),
        ("application/ld+json", JsonDictBlob),
        ("application/yaml", YamlDictBlob),
        ("image/png", ImageBlob),
        ("audio/x-anything", AudioBlob),
        ("video/mp4", VideoBlob),
        ("application/octet-stream", BytesBlob),
        ("nonsense", BytesBlob),
    ],
)
def test_a_media_type_decides_before_the_key(media_type: str, kind: type[BytesBlob]) -> None:
    assert blob_class("photo.jpg", media_type) is kind


def test_the_page_lists_the_endings_that_the_code_knows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "blobs.md").read_text()
    for kind, endings in ENDINGS.items():
        assert f"| `{kind.__name__}` | {' '.join(f'`{each}`' for each in endings.split())} |" in page, kind
    # What a format is written as is read as it again.
    for kind, formats in ((ImageBlob, IMAGES), (AudioBlob, AUDIO), (VideoBlob, VIDEO)):
        assert {end for form in formats.values() for end in form.extensions} <= set(ENDINGS[kind].split())
    listed = " ".join(ENDINGS.values()).split()
    assert len(listed) == len(set(listed))


def test_the_blobs_import_nothing_optional() -> None:
    script = (
        "import sys, holdall.blobs\n"
        "found = {'PIL', 'numpy', 'soundfile', 'moviepy', 'yaml', 'pydantic', 'msgspec'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
