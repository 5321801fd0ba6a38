"""The examples in the help: each command has some, and each can be run as it is printed."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdall.cli.app import _COMMANDS, _command, _split
from holdall.cli.parameters import fields, parse
from holdall.cli.typed import _GROUPS, root

WIDTH = 76
"""Columns that a terminal of 80 leaves for an example."""
PRINTS_BYTES = {"get", "cat", "stream", "local", "io", "lock", "catalog lease", "catalog get", "keygen"}
"""Commands that print what is stored, a key, or nothing of their own; stream prints JSON at any rate."""


def examples(function: Callable[..., Any]) -> list[str]:
    text = inspect.cleandoc(function.__doc__ or "")
    _, _, shown = re.split(r"^(Examples?:)\n", text, maxsplit=1, flags=re.M)
    return [line.removeprefix("  ") for line in shown.splitlines() if line]


def commands_in(line: str) -> Iterator[list[str]]:
    """The words that follow each `holdall` of a line of a shell."""
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from commands_in(inner)
    words: list[str] = []
    read = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    read.whitespace_split = True
    tokens = [*read, ";"]
    skips = False
    for token in tokens:
        if skips:
            skips = False
        elif set(token) <= set("<>"):
            skips = True
        elif set(token) <= set("|&;"):
            if words[:1] == ["holdall"]:
                yield words[1:]
            words = []
        else:
            words.append(token)


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_example_is_a_line_without_a_mistake(name: str) -> None:
    shown = examples(_command(name))
    found = [words for line in shown for words in commands_in(line)]
    assert any(" ".join(words).startswith(name) for words in found), shown
    for line in shown:
        assert len(line) <= WIDTH, f"it wraps: {line}"
    for words in found:
        _, called, rest = _split(words)
        assert parse(rest, list(fields(_command(called)))) is not None, words


@pytest.mark.parametrize("function", [root, *_GROUPS.values()], ids=lambda each: each.__name__)
def test_the_examples_of_all_commands_have_no_mistake(function: Callable[..., Any]) -> None:
    for line in examples(function):
        assert len(line) <= WIDTH, f"it wraps: {line}"
        for words in commands_in(line):
            _, called, rest = _split(words)
            assert parse(rest, list(fields(_command(called)))) is not None, words


def test_every_command_that_prints_has_json() -> None:
    without = {name for name in _COMMANDS if "json" not in {each.name for each in fields(_command(name))}}
    assert without == PRINTS_BYTES


def test_one_word_stands_for_one_idea() -> None:
    """An option has the same short form, and takes a value or none, in every command."""
    kinds: dict[str, set[tuple[object, ...]]] = {}
    for name in _COMMANDS:
        for field in fields(_command(name)):
            long = [each for each in field.about.names if each.startswith("--")]
            short = tuple(each for each in field.about.names if not each.startswith("--"))
            for each in long:
                kinds.setdefault(each, set()).add((short, field.kind is bool, field.about.metavar))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
