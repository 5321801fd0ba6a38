"""Files and the attributes that come with them, which the work tree doesn't have yet."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager

from holdall.stores.git.names import folders_of
from holdall.stores.git.program import Git
from holdall.stores.git.repository import Repository
from holdall.stores.git.worktree import Draft

_ATTRIBUTES = ".gitattributes"


@contextmanager
def check_out(
    repository: Repository, root: bytes, paths: Collection[str]
) -> Generator[Callable[[str, bytes], Iterator[bytes]]]:
    """Return a function from a path and a blob to the pieces of the file, by the attributes of its commit:
    those in the work tree may be of another one.
    """
    objects, index = repository.objects, repository.index()
    attributes: dict[str, bytes | None] = {}
    is_other = False
    for name in _above(paths):
        found = objects.find(root, os.fsencode(name))
        attributes[name] = found[1] if found is not None and found[0].startswith(b"100") else None
        is_other |= found != index.mode_and_oid(os.fsencode(name), objects.width)
    with tempfile.TemporaryDirectory(prefix="holdall-") as place:
        git = repository.git
        if is_other:
            for name, oid in attributes.items():
                if oid is not None:
                    os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
                    with open(f"{place}/{name}", "wb") as file:
                        file.write(objects.read(oid))
            git = _with_attributes(repository, place)
        converted: set[str] = set()
        if any(attributes.values()) or repository.configuration.converts_elsewhere():
            converted = repository.configuration.find_converted(git, paths)

        def contents(path: str, oid: bytes) -> Iterator[bytes]:
            if path in converted:
                yield from git.streaming("cat-file", "--filters", f"--path={path}", oid.hex())
            else:
                yield from objects.stream(oid)

        yield contents


def convert_together(repository: Repository, drafts: Mapping[str, Draft]) -> dict[str, Draft]:
    """Return drafts, by their paths, as the files of attributes among them want them."""
    with tempfile.TemporaryDirectory(prefix="holdall-") as place:
        for name in _above(drafts):
            source = drafts[name].path if name in drafts else f"{repository.top}/{name}"
            # A link says nothing to git here, wherever it leads.
            if os.path.isfile(source) and not os.path.islink(source):
                os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
                shutil.copyfile(source, f"{place}/{name}")
        git = _with_attributes(repository, place)
        converted = repository.configuration.find_converted(git, drafts)
        return {
            path: draft._replace(
                oid=repository.drafts.convert(draft.path, path, draft.size, git)
                if path in converted
                else draft.raw
            )
            for path, draft in drafts.items()
        }


def _with_attributes(repository: Repository, place: str) -> Git:
    """A git whose work tree holds files of attributes alone, and whose index nothing."""
    places = {"GIT_DIR": repository.private, "GIT_WORK_TREE": place}
    return Git(place, repository.git.timeout, durable=False, GIT_INDEX_FILE=f"{place}/none", **places)


def _above(paths: Iterable[str]) -> set[str]:
    """The places of the files of attributes that may apply to some paths."""
    return {
        f"{folder}/{_ATTRIBUTES}".lstrip("/") for path in paths for folder in ("", *folders_of(path, "/"))
    }
