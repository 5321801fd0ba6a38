"""What is special to hashed folders."""

import os
from pathlib import Path

import pytest

from holdall import FilesystemStore, HashdirStore, InvalidArgumentError


def test_files_lie_in_hashed_folders_by_their_names(tmp_path: Path) -> None:
    store = HashdirStore(tmp_path, width=2, depth=3)
    store["run-7/weights"] = b"1"
    (path,) = tmp_path.rglob("*weights")
    parts = path.relative_to(tmp_path).parts
    assert ([len(part) for part in parts[:-1]], parts[-1]) == ([2, 2, 2], "run-7%2Fweights")
    assert path.read_bytes() == b"1"


def test_a_blob_and_blobs_below_it_are_both(tmp_path: Path) -> None:
    store = HashdirStore(tmp_path)
    keys = ["a", "a/b", "a/b/c", "a%2Fb"]
    for key in keys:
        store[key] = key.encode()
    assert list(store.iterate_keys()) == sorted(keys)
    assert [store[key].decode() for key in keys] == keys


def test_children_look_at_all_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashdirStore(tmp_path)
    store.put_many(dict.fromkeys(["a", "b/1", "b/2", "b-c", "d/e/f", "d/g"], b""))
    looks: list[None] = []
    monkeypatch.setattr(store, "_find", lambda find=store._find: looks.append(None) or find())
    children = list(store.children())
    assert [getattr(child, "key", child) for child in children] == ["a", "b-c", "b/", "d/"]
    assert list(store.children("d/")) == ["d/e/", store.info("d/g")]
    assert len(looks) == 2


def test_another_layout_is_refused(tmp_path: Path) -> None:
    HashdirStore(tmp_path / "s", width=2, depth=2)["a"] = b""
    with pytest.raises(InvalidArgumentError, match="2 2"):
        HashdirStore(tmp_path / "s")
    assert list(HashdirStore(tmp_path / "s", width=2, depth=2).iterate_keys()) == ["a"]


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 0}, {"width": 8, "depth": 5}, {"depth": "3"}])
def test_wrong_layouts(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError):
        HashdirStore(tmp_path, **wrong)


def test_files_that_lie_elsewhere_are_none_of_ours(tmp_path: Path) -> None:
    store = HashdirStore(tmp_path)
    store["mine"] = b""
    for place in ("stranger", "ab/cd/ef/stranger", "ab/stranger"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    assert list(store.iterate_keys()) == ["mine"]
    store.clear()
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == [".holdall~hashdir", "stranger", "stranger", "stranger"]


def test_the_mark_is_no_blob_of_a_plain_folder(tmp_path: Path) -> None:
    HashdirStore(tmp_path)["a"] = b""
    assert [os.path.basename(key) for key in FilesystemStore(tmp_path).iterate_keys()] == ["a"]
