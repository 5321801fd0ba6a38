"""What the README promises of its own snippets: they run as they are, and again in the same folder."""

from pathlib import Path

import pytest
from tests.test_docs import PAGES, blocks


def test_the_snippets_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = [block.text for block in blocks(PAGES[0]) if block.language == "python"]
    assert not any(text.startswith(">>>") for text in snippets)
    for _ in range(2):
        namespace: dict[str, object] = {"__name__": "__main__"}
        for text in snippets:
            exec(compile(text, "README.md", "exec"), namespace)
