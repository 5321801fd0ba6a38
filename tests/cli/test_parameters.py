"""A line without a mistake is read without typer, and exactly as typer reads it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from holdall.cli.app import _COMMANDS, _command, _split
from holdall.cli.errors import UsageFault
from holdall.cli.parameters import fields, parse
from holdall.cli.typed import run_typer

RIGHT = (
    "ls",
    "ls logs/ --long",
    "ls -l --json",
    "ls --prefix a -p b",
    "du -plogs/",
    "tree --json -p x",
    "rm a -nf --json",
    "exists a --json",
    "cp a b --json",
    "catalog ls --prefix run/",
    "catalog rm a --json",
    "keys logs/ -0",
    "keys -l0 --glob **/*.pdf",
    "keys --prefix=logs/ --exclude-prefix logs/a",
    "keys -plogs/ -g=x",
    "get key -o -",
    "get -- --key",
    "get -o file -- -",
    "get --output= key",
    "put key value",
    "put key - --ttl 5m",
    "put key ''",
    "put -f name key --if-absent",
    "put key --text -x",
    "put key --text --file --print-etag",
    "put --if-match '\"etag\"' key value --content-type text/csv",
    "cat a b c",
    "get a -m json",
    "put a 1 --serialization-mode typed",
    "stream a.csv --no-header -m csv",
    "stream a -fm raw",
    "io -i a -o s3://b/c",
    "lock a --wait 0 -- make -j 4 --always",
    "lock a make report",
    "migrate a b --merge --dry-run -j 2",
    "doctor a b --timeout 5 --json",
    "cat a -f b -- -c",
    "rm -rfy logs/",
    "rm -r logs/ --string-prefix -y -y",
    "rm -rs ./x logs/",
    "cp a b -s ./store",
    "cp -s./store -s ./other a b --if-absent",
    "cp ./a ./b -nq -j4 -x a -x b --exclude=c",
    "mv ./a ./b -g '*' --glob x --include y --no-verify --replace-unreadable",
    "sync a b --delete --max-delete 10% --resume",
    "sync a b --jobs 04 --journal file",
    "sync a b --jobs=12 --json",
    "mirror a b --max-delete 3 --compare size -p logs/",
    "diff a b -q --json --include x",
    "verify",
    "verify a --quiet",
    "verify a b -g x -j 2",
    "info --json",
    "exists key -v",
    "du logs/ --json",
    "tree -L 2 -d 3",
    "tree x --depth=1",
    "keygen -o key",
    "rotate vault: --prefix a",
    "repair --rule newest -s x",
    "catalog ls run/ -l -C x",
    "catalog put a - --as json b=1 c= --input x --input y --keep 2 --create",
    "catalog find 'metadata.loss<0.1' type=dict --order-by -metadata.loss -n 3",
    "catalog alias",
    "catalog alias --delete prod",
    "catalog migrate --to x --backend json --blobs memory://",
    "catalog import x.zip --json",
)
WRONG = (
    "catalog put a",
    "catalog tag a",
    "catalog find --limit 0",
    "catalog alias a b c",
    "catalog ls --frob",
    "ls --prefixes a",
    "sync a b -c",
    "get",
    "get a b",
    "lock",
    "lock a make -j",
    "io a",
    "get a -o",
    "get a --output",
    "get a --frob",
    "get a --force=1",
    "get a -fo",
    "get a -f-",
    "get a -f--output",
    "get a -x",
    "get a --forc",
    "get a ---force",
    "get a --help",
    "get -h",
    "keys -l=1",
    "rm",
    "rm -r --",
    "cp a",
    "sync a b c",
    "sync a b -j 0",
    "sync a b -j -1",
    "sync a b -j x",
    "sync a b -j ''",
    "sync a b -j 1.5",
    "sync a b -s x",
    "tree -L 2 a b",
    "keygen x",
)


def by_typer(name: str, words: list[str]) -> dict[str, Any] | None:
    """What typer reads, or None if it refuses the line or shows the help."""
    seen: list[dict[str, Any]] = []
    try:
        commands = {name: _command(name)}
        run_typer([*name.split(), *words], commands, lambda _name, values, _before: seen.append(values), "X")
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
    return seen[0] if seen else None


@pytest.mark.parametrize("line", [*RIGHT, *WRONG])
def test_a_line_is_read_as_typer_reads_it(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, name, words = _split(shlex.split(line))
    read = parse(words, list(fields(_command(name))))
    assert read == by_typer(name, words)
    assert (read is None) == (line in WRONG)


def test_every_command_takes_what_its_parameters_say() -> None:
    for name in _COMMANDS:
        known = list(fields(_command(name)))
        assert len({field.name for field in known}) == len(known)
        options = [option for field in known for option in field.about.names]
        assert len(set(options)) == len(options)
        assert all(field.about.help for field in known)
        assert [field.name for field in known if (field.about.metavar is None) != (field.kind is bool)] == []


def test_a_value_is_checked_in_both_ways() -> None:
    for read in (by_typer, lambda name, words: parse(words, list(fields(_command(name))))):
        with pytest.raises(UsageFault, match="no key starts with"):
            read("keys", ["/x"])
