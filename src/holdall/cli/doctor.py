"""The command that looks at an installation, and at the stores that are named: doctor."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Annotated, NamedTuple

import holdall
from holdall.cli.completion import complete_store
from holdall.cli.durations import parse_duration
from holdall.cli.errors import UNAVAILABLE, describe
from holdall.cli.options import Json, StoreOption
from holdall.cli.output import Output, dumps
from holdall.cli.packages import Brought, Extra, read_brought, read_extras
from holdall.cli.parameters import Parameter
from holdall.cli.places import read_from
from holdall.cli.stores import default_name, spoken
from holdall.errors import StoreError
from holdall.store import Can
from holdall.workers import shared

_VARIABLE = "HOLDALL_"


class _Answer(NamedTuple):
    """What became of the question to one store."""

    name: str
    store: str | None = None
    """Its repr, which shows no secret."""
    can: Sequence[str] = ()
    seconds: float | None = None
    """How long it took to open it and look for a key; None if it failed."""
    error: str | None = None


class _Report(NamedTuple):
    """What is printed."""

    path: str | None
    """Of holdall.toml."""
    fault: str | None
    """What is wrong with it."""
    extras: list[Extra]
    brought: list[Brought]
    answers: list[_Answer]


def doctor(
    stores: Annotated[
        list[str] | None,
        Parameter(
            metavar="STORE",
            complete=complete_store,
            help="A URI, a path, or a configured name. Without it, HOLDALL_URI and all stores of "
            "holdall.toml.",
        ),
    ] = None,
    timeout: Annotated[
        str, Parameter("--timeout", metavar="TIME", help="Wait for a store: seconds, or 30s, 5m.")
    ] = "15",
    json: Json = False,
    store: StoreOption = None,
) -> int:
    """Report what is installed, what is missing, and which stores answer.

    Each extra that lacks a package has the line for pip. Stores, layers and serializers of other packages are
    loaded. Each store is opened and asked for its first key; nothing is written, and no secret is printed. A
    missing extra isn't an error, nor is a package that can't be used; the exit code is 4 if a store doesn't
    answer or holdall.toml can't be read. With --json there is one object.

    Examples:
      holdall doctor
      holdall doctor s3://bucket/data backup: --json
    """
    seconds = parse_duration(timeout)
    path, names, fault = _find_configuration()
    given = [*(stores or ()), *([] if store is None else [store])]
    asked = [(each, each) for each in given]
    if not asked:
        asked = _default()
        asked += [(f"{name}:", f"{name}:") for name in names]
    report = _Report(path, fault, read_extras(), read_brought(), _ask_all(asked, seconds))
    (_print_json if json else _print_text)(report, Output())
    return UNAVAILABLE if fault or any(each.error for each in report.answers) else 0


def _default() -> list[tuple[str, str]]:
    """Return the store that is used where none is named, and where its name is from."""
    given = os.environ.get("HOLDALL_URI")
    try:
        usual = default_name()
    except StoreError:
        # Of the file; that is reported by itself.
        usual = given
    return [("HOLDALL_URI" if given else "[defaults]", usual)] if usual else []


def _find_configuration() -> tuple[str | None, list[str], str | None]:
    """Return the path of holdall.toml, the stores that it names, and what is wrong with it."""
    from holdall import config

    path = None
    try:
        path = config.find()
        return path, [] if path is None else config.load(path).names(), None
    except StoreError as error:
        return path, [], describe(error)


def _ask_all(asked: list[tuple[str, str]], seconds: float) -> list[_Answer]:
    """Ask all stores side by side; one that doesn't answer is left behind."""
    calls = [(name, shared().submit(partial(_ask, spoken(name), place))) for name, place in asked]
    end = monotonic() + seconds
    return [
        call.result()
        if call.wait(max(0.0, end - monotonic()))
        else _Answer(spoken(name), error=f"no answer within {seconds:g} s")
        for name, call in calls
    ]


def _ask(name: str, place: str) -> _Answer:
    store: str | None = None
    can: list[str] = []
    begun = monotonic()
    try:
        with read_from(place) as opened:
            store, able = repr(opened), opened.can
            can = [flag.name.lower() for flag in Can if flag in able and flag.name]
            if Can.LIST in able:
                next(opened.iterate_keys(), None)
            else:
                opened.exists("holdall-doctor")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other stores are asked too
        return _Answer(name, store, can, error=describe(error))
    return _Answer(name, store, can, seconds=monotonic() - begun)


def _about() -> dict[str, str]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {"holdall": holdall.__version__, "python": platform.python_version(), "system": system}


def _pip(extra: Extra) -> str:
    return f"pip install 'holdall[{extra.name}]'"


def _print_json(report: _Report, output: Output) -> None:
    extras = [{**each._asdict(), "install": _pip(each) if each.missing else None} for each in report.extras]
    found: dict[str, object] = {
        **_about(),
        "configuration": report.path,
        "configuration_error": report.fault,
        "variables": _variables(),
        "extras": extras,
        "plugins": [each._asdict() for each in report.brought],
        "stores": [each._asdict() for each in report.answers],
    }
    output.line(dumps(found))


def _variables() -> list[str]:
    return sorted(name for name in os.environ if name.startswith(_VARIABLE))


def _print_text(report: _Report, output: Output) -> None:
    path, fault, extras, brought, answers = report
    about = _about()
    output.line(f"holdall {about['holdall']}, Python {about['python']}, {about['system']}")
    output.line(f"configuration: {path or 'no holdall.toml'}{f' FAILED: {fault}' if fault else ''}")
    output.line(f"variables:     {', '.join(_variables()) or 'none'}")
    output.line("")
    if not extras:
        output.line("extras: unknown, since pip didn't install this holdall")
    elif whole := [each.name for each in extras if not each.missing]:
        output.line(f"extras: {', '.join(whole)}")
    for each in extras:
        if each.missing:
            output.line(f"  {each.name} lacks {', '.join(each.missing)}: {_pip(each)}")
    output.line("")
    output.line("plug-ins:" if brought else "plug-ins: no package brings stores, layers or serializers")
    for each in brought:
        state = f"FAILED: {each.error}" if each.error else f"from {each.value}"
        output.line(f"  {each.package}  {each.kind} {each.name}  {state}")
    output.line("")
    output.line("stores:" if answers else "stores: none is named by HOLDALL_URI, holdall.toml or an argument")
    for each in answers:
        state = f"FAILED: {each.error}" if each.seconds is None else f"answers in {_spell(each.seconds)}"
        output.line(f"  {each.name}  {state}")
        if each.store is not None:
            output.line(f"    {each.store}")
            output.line(f"    can: {', '.join(each.can)}")


def _spell(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
