"""du and tree."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def filled(anywhere):
    for key, size in {"a": 1, "logs.txt": 2, "logs/1": 1000, "logs/x/2": 2500, "z/y": 4}.items():
        anywhere("put", key, stdin=bytes(size))
    return anywhere


def test_du(filled):
    rows = [line.split() for line in filled("du").decode().splitlines()]
    assert rows == [
        ["1", "B", "1", "blob", "a"],
        ["2", "B", "1", "blob", "logs.txt"],
        ["3.5", "kB", "2", "blobs", "logs/"],
        ["4", "B", "1", "blob", "z/"],
        ["3.5", "kB", "5", "blobs", "total"],
    ]


def test_du_of_a_prefix_as_json(filled):
    assert [json.loads(line) for line in filled("du", "logs/", "--json").splitlines()] == [
        {"name": "logs/1", "blobs": 1, "size": 1000},
        {"name": "logs/x/", "blobs": 1, "size": 2500},
        {"name": None, "blobs": 2, "size": 3500},
    ]


def test_tree(filled):
    assert filled("tree").decode() == (
        ".\n"
        "├── a  (1 B)\n"
        "├── logs.txt  (2 B)\n"
        "├── logs/\n"
        "│   ├── 1  (1.0 kB)\n"
        "│   └── x/\n"
        "│       └── 2  (2.5 kB)\n"
        "└── z/\n"
        "    └── y  (4 B)\n"
        "\n"
        "3 folders, 5 blobs, 3.5 kB\n"
    )


def test_tree_of_a_folder_to_a_depth(filled):
    assert filled("tree", "logs/", "--depth", "1").decode() == (
        "logs/\n├── 1  (1.0 kB)\n└── x/\n\n1 folder, 1 blob, 1.0 kB\n"
    )
    filled.error("tree", "--depth", "0", code=2)


def test_a_listing_takes_its_prefix_in_either_place(holdall):
    for key in ("a", "logs/1", "logs/2/x"):
        holdall("put", key, "xyz")
    for command in ("ls", "keys", "du", "tree"):
        assert holdall(command, "logs/") == holdall(command, "--prefix", "logs/") != holdall(command)
        assert "not both" in holdall.error(command, "logs/", "-p", "logs/", code=2)


def test_a_tree_as_json_has_its_lines_in_order(holdall):
    for key in ("a", "logs/1", "logs/2/x"):
        holdall("put", key, "xyz")
    found = [json.loads(line) for line in holdall("tree", "--json").splitlines()]
    assert [each.get("folder") or each["key"] for each in found] == [
        *("a", "logs/", "logs/1", "logs/2/", "logs/2/x"),
    ]
    found = [json.loads(line) for line in holdall("tree", "logs/", "-d", "1", "--json").splitlines()]
    assert [each.get("folder") or each["key"] for each in found] == ["logs/1", "logs/2/"]
