"""Commits: who, when and what, as hooks and signatures want it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from holdall.errors import StoreUnavailableError, UnsupportedOperation
from holdall.stores.git.configuration import Configuration
from holdall.stores.git.objects import Objects
from holdall.stores.git.program import Git
from holdall.stores.litter import remove
from holdall.stores.nofollow import HERE


class Commits:
    """Makes commits; no branch has them yet. `own` is the folder of holdall in the repository."""

    def __init__(self, configuration: Configuration, git: Git, objects: Objects, own: str) -> None:
        self._configuration, self._git, self._objects, self._own = configuration, git, objects, own

    def make(self, tree: bytes, parents: Sequence[bytes], message: str) -> bytes:
        """Write a commit, of now, and signed where the configuration says so."""
        author, committer = self._configuration.identity()
        moment = now()
        header = [f"tree {tree.hex()}", *[f"parent {parent.hex()}" for parent in parents]]
        header += [f"author {author} {moment}", f"committer {committer} {moment}"]
        made = self._write([line.encode() for line in header], (message.rstrip("\n") + "\n").encode())
        self._objects.know_root(made, tree)
        return made

    def remake(self, tree: bytes, parent: bytes, header: Sequence[bytes], message: bytes) -> bytes:
        """Write a commit as another one was, by its header and message, with another tree and parent."""
        _, committer = self._configuration.identity()
        author = next(line for line in header if line.startswith(b"author "))
        moment = next(line for line in header if line.startswith(b"committer ")).rsplit(b" ", 2)[1:]
        made = [
            b"tree " + tree.hex().encode(),
            b"parent " + parent.hex().encode(),
            author,
            b" ".join((b"committer", committer.encode(), *moment)),
            *[line for line in header if line.startswith(b"encoding ")],
        ]
        return self._write(made, message)

    def _write(self, header: Sequence[bytes], message: bytes) -> bytes:
        if not self._configuration.is_on("commit.gpgsign"):
            return self._objects.write(b"commit", b"\n".join(header) + b"\n\n" + message)
        # In the form in which `git commit-tree` takes a header.
        arguments: list[str] = []
        encoding = "UTF-8"
        people: dict[str, str] = {}
        for line in header:
            name, _, value = os.fsdecode(line).partition(" ")
            if name in ("author", "committer"):
                person, _, rest = value.partition(" <")
                mail, _, moment = rest.rpartition("> ")
                for what, text in (("NAME", person), ("EMAIL", mail), ("DATE", f"@{moment}")):
                    people[f"GIT_{name.upper()}_{what}"] = text
            elif name == "encoding":
                encoding = value
            else:
                arguments += ["-p", value] if name == "parent" else [value]
        command = ("-c", f"i18n.commitEncoding={encoding}", "commit-tree", "-S", *arguments)
        code, made, errors = self._git.call(*command, data=message, network=False, **people)
        if code:
            raise StoreUnavailableError(f"git can't sign the commit (commit.gpgsign): {errors}")
        return bytes.fromhex(made.strip().decode())

    def ask_hooks(self, tree: bytes, message: str) -> str:
        """The message that the hooks of a commit leave, if they let it pass."""
        asked = [
            name
            for name in ("pre-commit", "prepare-commit-msg", "commit-msg")
            if self._configuration.hook(name)
        ]
        if not asked:
            return message
        # Not `COMMIT_EDITMSG`, which a person may have open.
        index, text = f"{self._own}/hook-index", f"{self._own}/hook-message"
        for name in (index, f"{index}.lock", text):
            remove(name, HERE)  # of a writer that was killed
        arguments = {"pre-commit": (), "prepare-commit-msg": (text, "message"), "commit-msg": (text,)}
        try:
            self._git.run("read-tree", tree.hex(), GIT_INDEX_FILE=index)
            with open(text, "w", encoding="utf-8") as file:
                file.write(message + "\n")
            for name in asked:
                command = ("hook", "run", "--ignore-missing", name, "--", *arguments[name])
                code, output, errors = self._git.call(
                    *command, GIT_INDEX_FILE=index, HOLDALL_IN_HOOK=self._own
                )
                if code:
                    reason = errors or output.decode(errors="replace").strip()
                    raise UnsupportedOperation(
                        f"the hook {name} of the repository refuses the commit: {reason}"
                    )
            with open(text, encoding="utf-8", errors="replace") as file:
                message = file.read()
        finally:
            remove(index, HERE)
            remove(text, HERE)
        if not message.strip():
            raise UnsupportedOperation(
                "the repository's hooks left an empty commit message: change the hooks"
            )
        return message


def now() -> str:
    """This moment, as commits spell it: seconds since 1970, and the offset of the time zone."""
    seconds = int(time.time())
    offset = time.localtime(seconds).tm_gmtoff // 60
    sign = "-" if offset < 0 else "+"
    return f"{seconds} {sign}{abs(offset) // 60:02}{abs(offset) % 60:02}"
