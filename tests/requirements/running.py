"""Run the blocks of the documents that holdall was asked for, with only their import lines changed."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.requirements.reader import Reader
from tests.requirements.servers import Servers

FOLDER = Path(__file__).parent

MODULES = {
    "anystore": "holdall",
    "anystore.virtual": "holdall.virtual",
    "asyncblobdict": "holdall",
    "cacheness.storage": "holdall",
    "cacheness.storage.backends": "holdall.catalog",
    "storage.db": "holdall",
    "storage.fs": "holdall",
    "storage.s3": "holdall",
}
"""Which of holdall's modules has what a module of the documents has."""
PROGRAMS = {"anystore": "holdall", "asyncblobdict": "holdall"}
"""The names of programs, packages and repositories in shell blocks."""


class Block(NamedTuple):
    language: str
    heading: str
    """The heading above it."""
    line: int
    """Of its first line of code, counted from 0."""
    text: str


def blocks(document: str) -> Iterator[Block]:
    """Yield the blocks of a document, the two that have one backtick instead of three too."""
    heading, fence, first = "", None, 0
    held: list[str] = []
    lines = (FOLDER / document).read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if fence is None:
            fence = re.fullmatch(r"(`|```)([a-z]+)\n", line)
            assert fence or "```" not in line, f"{document}:{number + 1}: what fence is this? {line}"
            if line.startswith("#"):
                heading = line.lstrip("#").strip()
            held, first = [], number + 1
        elif line.strip() == fence[1]:
            yield Block(fence[2], heading, first, "".join(held))
            fence = None
        else:
            held.append(line)
    assert fence is None, f"{document}: a block isn't closed"


def translated(block: Block) -> str:
    """Return the text of a block with holdall's names: in Python, its import lines only.

    >>> translated(Block("python", "", 0, "from storage.fs import FilesystemStore\\nstorage = 1\\n"))
    'from holdall import FilesystemStore\\nstorage = 1\\n'
    """
    if block.language == "python":
        return re.sub(
            r"^( *(?:from|import) )([\w.]+)",
            lambda found: found[1] + MODULES.get(found[2], found[2]),
            block.text,
            flags=re.M,
        )
    return re.sub(r"\w+", lambda found: PROGRAMS.get(found[0], found[0]), block.text)


Supply = Callable[[Reader, Servers], Generator[None]]
"""Prepares what a block leaves to its reader, yields while it runs (a shell block: once for each of its
commands), and checks what is there afterwards."""


class Supplies(dict[tuple[str, int], Supply]):
    """The suppliers of a document's blocks."""

    def __call__(self, heading: str, number: int = 1) -> Callable[[Supply], Supply]:
        """Take a function as the supplier of the nth block below a heading."""

        def register(supply: Supply) -> Supply:
            assert self.setdefault((heading, number), supply) is supply
            return supply

        return register


def run(document: str, supplies: Supplies, reader: Reader, servers: Servers) -> None:
    """Run all blocks of a document, in their order."""
    seen: dict[str, int] = {}
    left = dict(supplies)
    for block in blocks(document):
        number = seen[block.heading] = seen.get(block.heading, 0) + 1
        where = f"{document}:{block.line + 1}"
        supply = left.pop((block.heading, number), None)
        assert supply is not None, f"{where}: nobody runs block {number} of {block.heading!r}"
        try:
            _run_block(block, reader, supply(reader, servers))
        except BaseException as error:
            error.add_note(f"in the block at {where}")
            raise
    assert not left, f"{document} has no such blocks: {list(left)}"


def _run_block(block: Block, reader: Reader, supplied: Generator[None]) -> None:
    next(supplied)
    text = translated(block)
    if block.language == "bash":
        for number, command in enumerate(text.splitlines()):
            if number:
                next(supplied)
            reader.run_shell(command)
    elif block.language == "env":
        reader.write_settings(text)
    elif block.language == "python" and _is_declaration(text):
        reader.read_declaration(text)
    else:
        assert block.language == "python", f"nobody runs {block.language}"
        reader.run_python(text, block.line)
    assert next(supplied, "over") == "over", "a supplier waits for more than the block has"


def _is_declaration(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return True
    return False


def expects(supply: Supply) -> bool:
    """Return whether a supplier asserts something after each time that it has a block run."""
    code = ast.parse(inspect.cleandoc(inspect.getsource(supply)))
    events = [
        (node.lineno, isinstance(node, ast.Yield))
        for node in ast.walk(code)
        if isinstance(node, ast.Yield | ast.Assert)
    ]
    kinds = [is_yield for _, is_yield in sorted(events)]
    followed = zip(kinds, [*kinds[1:], True], strict=True)
    return any(kinds) and not any(this and after for this, after in followed)
