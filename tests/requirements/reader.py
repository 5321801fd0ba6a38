"""Who follows a document, and runs its blocks."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Reader:
    """Who follows a document: a folder, the names that are defined so far, and what the last block did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        """The names of the document's Python, among them what an example leaves to its reader."""
        self.given: dict[str, str] = {}
        """What the reader writes instead of parts of a block: a path, or the `...` of an example."""
        self.settings: dict[str, str] = {}
        """The reader's own values for a block of environment variables."""
        self.printed = ""
        self.yielded: list[Any] = []
        self.returned: Any = None
        self.held: dict[str, dict[str, Any]] = {}
        """The local variables of each function of the block, as they were when it ended."""
        self.declared: inspect.Signature | None = None

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    def files(self, pattern: str = "**/*", below: str = ".") -> list[str]:
        """The files of a folder of the reader's, as relative paths."""
        root = self.folder / below
        return sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file())

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def write(self, files: dict[str, bytes | str]) -> None:
        for name, data in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)

    def run_python(self, text: str, line: int) -> None:
        """Run a block, which may await, yield and return as the body of a function does.

        Args:
            line: Where the block begins in its document, counted from 0.
        """
        file = self.folder / f"block_{line + 1}.py"
        for part, mine in self.given.items():
            text = text.replace(part, mine)
        # Whoever looks for the file of a running function finds one.
        file.write_text("\n" * line + text)
        tree = ast.parse(file.read_text())
        found = [*_at_top(tree)]
        if any(isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in found):
            tree = _as_function(tree, found)
        code = compile(tree, str(file), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        self.yielded, self.returned, self.held = [], None, {}
        with contextlib.redirect_stdout(io.StringIO()) as printed, _profiled(str(file), self.held):
            made = eval(code, self.names)
            if inspect.iscoroutine(made):
                asyncio.run(made)
            if tree.body and getattr(tree.body[0], "name", None) == "_block":
                self.returned = self.names["_block"]()
                if inspect.isgenerator(self.returned):
                    self.yielded = list(self.returned)
        self.printed = printed.getvalue()

    def read_declaration(self, text: str) -> None:
        """Take a block that shows how a class is called: its parameters, with types and defaults."""
        node = ast.parse(f"def {text.strip()}: ...").body[0]
        assert isinstance(node, ast.FunctionDef)
        names: dict[str, Any] = {}
        exec(f"from __future__ import annotations\n{ast.unparse(node)}", names)
        self.declared = inspect.signature(names[node.name])

    def write_settings(self, text: str) -> None:
        """Write the file `.env` of a block of variables, with the values that the reader has for them."""
        names = [line.partition("=")[0] for line in text.splitlines()]
        self.write({".env": "".join(f'{name}="{self.settings[name]}"\n' for name in names)})

    def run_shell(self, command: str) -> None:
        """Run one line; the folder that it ends in is that of the next."""
        state = shlex.quote(str(self.folder / ".cwd"))
        script = (
            f'set -o pipefail; cd "$(cat {state} 2>/dev/null || echo .)"\n'
            f"{command}\ncode=$?; pwd > {state}; exit $code"
        )
        run = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self.printed = run.stdout
        assert run.returncode == 0, f"$ {command}\n{run.stdout}"


def _at_top(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are in no function and in no class, and these themselves."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _at_top(node)


def _as_function(tree: ast.Module, found: list[ast.AST]) -> ast.Module:
    """Make statements of a function's body, which a document shows without the function, into that function;
    its names stay those of the document."""
    made: set[str] = set()
    for node in found:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).partition(".")[0])
    whole = ast.parse("def _block(): pass")
    assert isinstance(whole.body[0], ast.FunctionDef)
    whole.body[0].body = [*([ast.Global(sorted(made))] if made else []), *tree.body]
    return ast.fix_missing_locations(whole)


@contextlib.contextmanager
def _profiled(file: str, held: dict[str, dict[str, Any]]) -> Iterator[None]:
    def note(frame: Any, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_filename == file and frame.f_code.co_name[0] not in "_<":
            held[frame.f_code.co_name] = dict(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)
