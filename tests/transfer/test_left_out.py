"""What isn't a blob: counted, and safe in the other store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import InvalidArgumentError, KeyConflictError
from holdall.layers.prefix import PrefixStore
from holdall.store import Info, LeftOut, Store
from holdall.stores.filesystem import FilesystemStore
from holdall.stores.memory import MemoryStore
from holdall.transfer import copy_store, diff_stores, move_store, sync_stores, verify_store


class Partial(MemoryStore):
    """A store that leaves some paths out."""

    left: tuple[LeftOut, ...] = ()
    late = False
    """Whether they are listed after all blobs, not in their places."""

    def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
        left = [entry for entry in self.left if entry.path.startswith(prefix) and entry.path >= after]
        found: list[Info | LeftOut] = [*super()._scan(prefix, after), *left]
        if not self.late:
            found = [*left, *super()._scan(prefix, after)]
        if not self.late:
            found.sort(key=lambda entry: entry.path if isinstance(entry, LeftOut) else entry.key)
        yield from found


def partial(blobs: dict[str, bytes], *left: tuple[str, str]) -> Partial:
    store = Partial(blobs)
    store.left = tuple(LeftOut(*each) for each in left)
    return store


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["a", "a/"])
def test_what_lies_at_or_under_it_stays_in_the_target(name: str, late: bool) -> None:
    source = partial({"b": b"1"}, (name, "symbolic link"), ("c/d", "unreadable folder"))
    source.late = late
    old = {"a": b"", "a/b/c": b"", "a-b": b"", "c": b"", "c/d/e": b"", "c/de": b""}
    target = MemoryStore({**old, "b": b"1"})
    plan = sync_stores(source, target, dry_run=True)
    assert [action.key for action in plan] == ["a-b", "c", "c/de"]
    report = sync_stores(source, target, max_delete=3)
    assert (report.ok, report.deleted, report.skipped) == (True, 3, 1)
    assert list(target) == ["a", "a/b/c", "b", "c/d/e"]
    assert report.left_out == {"symbolic link": 1, "unreadable folder": 1}
    assert report.left_out_paths == {"symbolic link": ["a"], "unreadable folder": ["c/d"]}
    assert str(report).splitlines()[1:] == [
        "left out: 1 (symbolic link): 'a'",
        "left out: 1 (unreadable folder): 'c/d'",
    ]


def test_it_is_not_counted_among_what_would_be_deleted() -> None:
    source = partial({"z": b""}, ("a", "symbolic link"))
    target = MemoryStore({f"a/{n}": b"" for n in range(9)} | {"z": b""})
    assert sync_stores(source, target).deleted == 0
    assert len(target) == 10


def test_a_store_that_leaves_all_out_keeps_the_target() -> None:
    target = MemoryStore({"a": b"", "b/c": b""})
    report = sync_stores(partial({}, ("", "list of keys that was lost")), target, max_delete=1.0)
    assert (report.deleted, len(target)) == (0, 2)


def test_names_that_are_not_utf_8_are_counted() -> None:
    left = [(f"caf\udce9 {n}", "name that can't be a key") for n in range(5)]
    report = verify_store(partial({"a": b""}, *left))
    assert (report.checked, report.left_out) == (1, {"name that can't be a key": 5})
    assert "left out: 5 (name that can't be a key): 'caf\\udce9 0', " in str(report)
    assert str(report).endswith(", ...")


def test_a_report_has_names_as_a_difference_has_them(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"two\nlines"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    report = copy_store(FilesystemStore(tmp_path), MemoryStore())
    assert "'caf\\udce9', 'two\\nlines'" in str(report)


@pytest.mark.parametrize("act", [copy_store, sync_stores, move_store])
def test_what_the_target_leaves_out_is_not_replaced(act: Any) -> None:
    source = MemoryStore({"a": b"1", "b/c": b"2", "d": b"3"})
    target = partial({}, ("a", "named pipe"), ("b", "symbolic link"))
    report = act(source, target)
    assert report.conflicts == ["a", "b/c"]
    assert all(isinstance(error, KeyConflictError) for error in report.failures.values())
    assert "named pipe" in str(report.failures["a"])
    assert "at 'b'" in str(report.failures["b/c"])
    assert (dict(target), report.left_out) == ({"d": b"3"}, {})
    assert len(source) == 3
    assert sorted(act(source, target, dry_run=True).failures) == ["a", "b/c"]


def test_what_both_hold_and_the_source_leaves_out_is_not_replaced() -> None:
    source = partial({"a": b"new"}, ("a", "entry in conflict"))
    target = MemoryStore({"a": b"old"})
    report = sync_stores(source, target)
    assert (report.conflicts, target["a"]) == (["a"], b"old")


def test_a_link_above_the_prefix() -> None:
    source = partial({"b": b"", "a/b-": b"", "a/b.c": b""}, ("a/b/", "symbolic link"))
    blobs = {"a/b/c/1": b"", "a/b/c/2": b""}
    target, root = MemoryStore(blobs), MemoryStore(blobs)
    for one, other, prefix in (
        (source, target, "a/b/c/"),
        (PrefixStore(source, "a/"), PrefixStore(root, "a/"), "b/c/"),
    ):
        report = sync_stores(one, other, prefix=prefix, max_delete=1.0)
        assert (report.deleted, report.left_out) == (0, {"symbolic link": 1})
    assert len(target) == len(root) == 2


def test_what_is_excluded_is_not_counted() -> None:
    source = partial({"a": b""}, ("tmp/x", "symbolic link"), ("y", "symbolic link"))
    assert verify_store(source, exclude="tmp").left_out == {"symbolic link": 1}


def test_diff_shows_it() -> None:
    one = partial({"b": b"1", "c": b"1"}, ("a", "symbolic link"), ("c", "named pipe"), ("z", "socket"))
    other = partial({"a/x": b"", "b": b"2", "c": b"2", "d": b""}, ("b2", "folder"))
    assert [(each.kind, each.key, each.left_out) for each in diff_stores(one, other)] == [
        ("left out", "a", "source: symbolic link"),
        ("left out", "a/x", "source: symbolic link"),
        ("differs", "b", None),
        ("left out", "b2", "target: folder"),
        ("left out", "c", "source: named pipe"),
        ("target", "d", None),
        ("left out", "z", "source: socket"),
    ]


def test_many_are_counted_in_a_split_listing(tmp_path: Path) -> None:
    source, target = FilesystemStore(tmp_path / "s"), FilesystemStore(tmp_path / "t")
    for n in range(40):
        for store in (source, target):
            store.update({f"{n:02}/{m:02}": b"" for m in range(25)})
        os.symlink("/etc", tmp_path / "s" / f"{n:02}" / "link")
    for executor in (None, "process"):
        report = sync_stores(source, target, compare="size", executor=executor)
        assert sum(report.left_out.values()) == sum(1 for _ in source.left_out())
        assert (report.skipped, report.ok) == (1000, True)


@pytest.mark.parametrize(
    ("exclude", "excluded"),
    [
        ("a", {"a", "a/b", "a/b/c.tmp"}),
        ("a/", {"a", "a/b", "a/b/c.tmp"}),
        ("*.tmp", {"d.tmp"}),
        ("**/*.tmp", {"a/b/c.tmp", "d.tmp"}),
        (["a/b", "e"], {"a/b", "a/b/c.tmp", "e"}),
        ([], set[str]()),
    ],
)
def test_what_is_excluded_is_neither_copied_nor_deleted(exclude: Any, excluded: set[str]) -> None:
    keys = {"a", "a/b", "a/b/c.tmp", "d.tmp", "e", "f"}
    new, old = dict.fromkeys(keys, b"new"), dict.fromkeys([*keys, "g"], b"old")

    def stores() -> tuple[Store, Store]:
        return MemoryStore(new), MemoryStore(old)

    source, target = stores()
    assert {each.key for each in diff_stores(source, target, exclude=exclude)} == keys - excluded | {"g"}
    assert verify_store(source, exclude=exclude).checked == len(keys - excluded)
    plan = sync_stores(source, target, exclude=exclude, dry_run=True)
    assert {action.key for action in plan} == keys - excluded | {"g"}
    assert sync_stores(source, target, exclude=exclude, max_delete=1.0).ok
    kept = dict.fromkeys(excluded, b"old")
    assert dict(target) == {**dict.fromkeys(keys - excluded, b"new"), **kept}
    # Those that only the target has are protected, too.
    source.clear()
    assert sync_stores(source, target, exclude=exclude, max_delete=1.0).ok
    assert dict(target) == kept
    source, target = stores()
    assert move_store(source, target, exclude=exclude).ok
    assert set(source) == excluded
    source, target = stores()
    assert copy_store(source, target, exclude=exclude).copied == len(keys - excluded)


def test_several_globs_and_what_is_excluded_of_them() -> None:
    blobs = {"a.jpg": b"", "b/c.png": b"", "b/d.jpg": b"", "e.txt": b"", "f/g.txt": b""}
    target = MemoryStore({"b/old.png": b"", "old.txt": b""})
    sync_stores(MemoryStore(blobs), target, glob=["**/*.jpg", "b/*.png"], exclude="b/d*", max_delete=1.0)
    assert list(target) == ["a.jpg", "b/c.png", "old.txt"]


@pytest.mark.parametrize("wrong", ["", "/", "/tmp", 5, ["a", None], b"a"])
def test_what_is_no_glob_is_refused(wrong: Any) -> None:
    target = MemoryStore({"a": b""})
    with pytest.raises(InvalidArgumentError, match="exclude"):
        sync_stores(MemoryStore(), target, exclude=wrong, max_delete=1.0)
    assert len(target) == 1
