"""The settings of a repository: git's configuration, the rules for ignored and converted files, and hooks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from holdall.errors import StoreUnavailableError
from holdall.stores.git.files import signature, text
from holdall.stores.git.names import folders_of
from holdall.stores.git.program import Git, Pipe

_CONVERTING = ("text", "crlf", "eol", "filter", "ident", "working-tree-encoding")


class Configuration:
    """What git does as its user wants it.

    `private` is the folder of git that is the work tree's own, `shared` the one that it shares with linked
    work trees. Without an author the configuration says who commits.
    """

    def __init__(self, git: Git, top: str, private: str, shared: str, author: str | None) -> None:
        self._git, self._top, self._private, self._shared = git, top, private, shared
        self._author = author
        self._values: dict[str, str] = {}
        self._state: object = None
        self._identity: tuple[str, str] | None = None
        # Without the index, which it would read but once.
        self._ignores = Pipe(
            top, *("check-ignore", "--no-index"), *("--stdin", "-z", "--verbose", "--non-matching")
        )
        self.learn()

    def close(self) -> None:
        self._ignores.close()

    def learn(self) -> None:
        """Read git's configuration, if it isn't the one that was read before."""
        home = os.path.expanduser("~")
        above = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        named = os.environ.get("GIT_CONFIG_GLOBAL")
        places = (named or f"{home}/.gitconfig", f"{above}/git/config", "/etc/gitconfig")
        state = (
            *[
                signature(path)
                for path in (f"{self._shared}/config", f"{self._private}/config.worktree", *places)
            ],
            *[
                os.environ.get(f"GIT_{who}_{what}")
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            ],
        )
        if state == self._state:
            return
        config: dict[str, str] = {}
        for line in os.fsdecode(self._git.run("config", "--list", "-z", "--includes")).split("\0"):
            name, given, value = line.partition("\n")
            # A name alone means yes.
            config[name] = value if given else "true"
        self._values, self._identity, self._state = config, None, state
        excludes, attributes = config.get("core.excludesfile"), config.get("core.attributesfile")
        self._excluding = os.path.expanduser(excludes or f"{above}/git/ignore")
        self._attributing = os.path.expanduser(attributes or f"{above}/git/attributes")
        self._converting = (
            self.is_on("core.autocrlf")
            or os.path.exists(self._attributing)
            or os.path.exists("/etc/gitattributes")
        )

    def is_on(self, name: str, default: bool = False) -> bool:
        """Whether a setting is switched on."""
        value = self._values.get(name)
        return default if value is None else value.lower() not in ("false", "no", "off", "0", "")

    def get(self, name: str) -> str | None:
        """Return the value of a setting; its name is in lower case."""
        return self._values.get(name)

    def identity(self) -> tuple[str, str]:
        """Return the author and the committer, and refuse to go on if they aren't configured."""
        if self._identity is None:
            if self._author is not None:
                name, _, mail = self._author.partition("<")
                author = f"{name.strip()} <{mail.rstrip('> ')}>"
                code, committer, _ = self._who("COMMITTER")
                self._identity = author, committer if code == 0 else author
            else:
                people: list[str] = []
                for who in ("AUTHOR", "COMMITTER"):
                    code, person, errors = self._who(who)
                    if code:
                        raise StoreUnavailableError(
                            "git doesn't know who commits: give author='Name <mail>', or run "
                            f"`git config --global user.name ...` and `user.email ...` "
                            f"({' '.join(errors.splitlines()[-1:])})"
                        )
                    people.append(person)
                self._identity = people[0], people[1]
        return self._identity

    def mover(self) -> str:
        """Return the committer for the reflog, or a placeholder: a merge of others' commits needs none."""
        try:
            return self.identity()[1]
        except StoreUnavailableError:
            return "unknown <>"

    def _who(self, who: str) -> tuple[int, str, str]:
        code, output, errors = self._git.call("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT")
        return code, output.decode(errors="replace").rpartition("> ")[0] + ">", errors

    def is_ignored(self, path: str) -> bool:
        """Whether git would refuse to add a path that it doesn't track."""
        # Usually there are no rules, and no need to ask git.
        places = [f"{self._shared}/info/exclude", self._excluding, f"{self._top}/.gitignore"]
        places += [f"{self._top}/{folder}/.gitignore" for folder in folders_of(path, "/")]
        state = [signature(place) for place in places]
        if not any(state) or (not any(state[1:]) and not _says_anything(places[0])):
            return False
        # Relative to the folder that git runs in, and marked as that by `./` where it looks like magic.
        fields = self._ignores.ask(os.fsencode(path) + b"\0", lambda source: _fields(source, 4), tuple(state))
        return bool(fields[2]) and not fields[2].startswith(b"!")

    def converts(self, path: str, tracked: bool) -> bool:
        """Whether git would keep other bytes of a file than those in it; `tracked` is set if git tracks a
        file of attributes."""
        if not tracked and not self.converts_elsewhere():
            folders = [self._top, *[f"{self._top}/{folder}" for folder in folders_of(path, "/")]]
            if not any(os.path.exists(f"{folder}/.gitattributes") for folder in folders):
                return False
        return bool(self.find_converted(self._git, [path]))

    def converts_elsewhere(self) -> bool:
        """Whether anything but the files of attributes in a work tree may say that git converts files."""
        return self._converting or signature(f"{self._shared}/info/attributes") is not None

    def find_converted(self, git: Git, paths: Iterable[str]) -> set[str]:
        """Return the files for which git, in the folder of the attributes, would keep other bytes."""
        asked = b"".join(os.fsencode(path) + b"\0" for path in paths)
        printed = git.run("check-attr", "--stdin", "-z", *_CONVERTING, data=asked).split(b"\0")
        found: dict[bytes, dict[bytes, bytes]] = {}
        for path, name, value in zip(printed[0::3], printed[1::3], printed[2::3], strict=False):
            found.setdefault(path, {})[name] = value
        return {os.fsdecode(path) for path, values in found.items() if self._convert(values)}

    def _convert(self, values: Mapping[bytes, bytes]) -> bool:
        """Whether a file with these attributes is another one in the work tree than in the repository."""
        kind = values.get(b"text")
        if kind != b"unset" and self.is_on("core.autocrlf"):
            return True
        return any(
            value not in (b"unspecified", b"unset")
            for name, value in values.items()
            if name != b"eol" or kind != b"unset"
        )

    def hook(self, name: str) -> bool:
        """Whether there is a hook of that name."""
        folder = self._values.get("core.hookspath")
        path = f"{self._shared}/hooks/{name}"
        if folder:
            path = os.path.join(self._top, os.path.expanduser(folder), name)
        return os.access(path, os.X_OK)


def _says_anything(path: str) -> bool:
    return any(line.strip() and not line.startswith("#") for line in text(path).splitlines())


def _fields(source: BinaryIO, number: int) -> list[bytes]:
    found = bytearray()
    while found.count(0) < number:
        byte = source.read(1)
        if not byte:
            raise EOFError
        found += byte
    return bytes(found).split(b"\0")
