"""For the pages of the API: what a docstring shows between prompts becomes a code block.

Markdown takes `>>>` for a quotation in a quotation in a quotation.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Puts a fence around each paragraph that begins with a prompt."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with its sessions in fences; those below `Examples:` are indented, and griffe knows them."""
    return re.sub(
        r"(?m)^>>> .*\n?(?:^(?!\s*$).*\n?)*", lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text
    )
