"""Completion of keys at a shell's Tab, which reads the store and never fails, prints or writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from holdall.cli.stores import open_at, store_name

_OFFERED = 50
_LOOKED_AT = 1000

# Shells put what is offered on the command line as it is, and zsh evaluates it: a key that somebody else
# chose must not become a command.
_is_harmless = re.compile(r"[\w./@%+=,:-]+").fullmatch

_head = ""
"""What bash split off the word that is completed, at a colon."""


def complete_key(ctx: Any, incomplete: str) -> list[str]:
    """Return the first keys that start with what was typed, or none if anything is wrong.

    Typer passes its context by the name `ctx`.
    """
    try:
        with open_at(_place(ctx)) as store:
            return offered(store.iterate_keys(typed_start(incomplete)))
    except Exception:  # noqa: BLE001 - a traceback would be printed in the middle of the user's line
        return []


def complete_store(incomplete: str) -> list[str]:
    """The stores that `holdall.toml` names; paths are the shell's to complete."""
    try:
        from holdall import config

        path = config.find()
        names = [] if path is None else config.load(path).names()
        return [name[len(_head) :] for name in names if name.startswith(_head + incomplete)]
    except Exception:  # noqa: BLE001 - as above
        return []


def rejoin_bash_words() -> None:
    """Join the words that bash splits at `:`, `=` and `@`, as in `sqlite:///file.db`.

    Bash replaces only what stands after the colon of the last word, so completions begin there.
    """
    global _head
    with suppress(KeyError, ValueError):
        words = os.environ["COMP_WORDS"].split("\n")
        current = int(os.environ["COMP_CWORD"])
        joined = [""]
        glue = True
        for word in words[: current + 1]:
            breaks = re.fullmatch("[:=@]+", word) is not None
            if glue or (breaks and len(joined) > 1):
                joined[-1] += word
            else:
                joined.append(word)
            glue = breaks
        *before, last = joined
        tail = re.split("[:=@]", last)[-1] if current < len(words) else last
        _head = last[: len(last) - len(tail)]
        os.environ["COMP_WORDS"] = "\n".join([*before, tail])
        os.environ["COMP_CWORD"] = str(len(before))


def _place(context: Any) -> str:
    here = context.params.get("store")
    above = context.parent.params.get("store") if context.parent is not None else None
    return store_name(here or above)


def typed_start(incomplete: str) -> str:
    """Return the start of the word that is completed, with what bash split off."""
    return _head + incomplete


def offered(keys: Iterable[str]) -> list[str]:
    """Return the first of the keys that a shell may be offered, as it needs them."""
    harmless = filter(_is_harmless, islice(keys, _LOOKED_AT))
    return [key[len(_head) :] for key in islice(harmless, _OFFERED)]
