"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

from holdall.cli.completion import complete_key, complete_store
from holdall.cli.errors import UsageFault
from holdall.cli.parameters import Parameter
from holdall.cli.stores import spoken
from holdall.store import ABSENT, ANY, Expect

StoreOption = Annotated[
    str | None,
    Parameter(
        "--store",
        "-s",
        metavar="URI",
        complete=complete_store,
        help="The store: a path, a URI such as sqlite:///file.db, or a name of holdall.toml. "
        "Without it, HOLDALL_URI.",
    ),
]
StoreArgument = Annotated[
    str | None,
    Parameter(
        metavar="STORE",
        complete=complete_store,
        help="A URI, a path, or a configured name. Without it, --store or HOLDALL_URI.",
    ),
]
Json = Annotated[bool, Parameter("--json", help="Print JSON, one object a line.")]
Key = Annotated[str, Parameter(metavar="KEY", complete=complete_key, help="Which blob.")]
Keys = Annotated[list[str], Parameter(metavar="KEY", complete=complete_key, help="Which blobs.")]


def check_prefix(prefix: str) -> str:
    """Refuse a prefix that no key can start with: most often it is meant for a store."""
    if "://" in prefix:
        raise UsageFault(f"no key starts with {spoken(prefix)!r}, which names a store: give it by --store")
    *folders, _ = prefix.split("/")
    if not {"", ".", ".."}.isdisjoint(folders):
        raise UsageFault(
            f"no key starts with {prefix!r}: write a folder as in logs/, without '/' or './' before it; name "
            "a store by --store, or as STORE, SOURCE or TARGET"
        )
    return prefix


Prefix = Annotated[
    str,
    Parameter(
        metavar="PREFIX",
        complete=complete_key,
        check=check_prefix,
        help="Only keys that start with these characters, such as logs/.",
    ),
]
KeyPrefix = Annotated[
    str,
    Parameter(
        "--prefix",
        "-p",
        metavar="PREFIX",
        complete=complete_key,
        check=check_prefix,
        help="Only keys that start with this.",
    ),
]


def one_prefix(argument: str, option: str) -> str:
    """Return the prefix that a listing is given, as PREFIX or by --prefix."""
    if argument and option:
        raise UsageFault("give PREFIX or --prefix, not both")
    return argument or option


DryRun = Annotated[bool, Parameter("--dry-run", "-n", help="Change nothing; print what would be done.")]
Yes = Annotated[bool, Parameter("--yes", "-y", help="Don't ask.")]
Force = Annotated[bool, Parameter("--force", "-f", help="Print it on a terminal even if it isn't text.")]
IfAbsent = Annotated[
    bool, Parameter("--if-absent", help="Only where there is no blob yet; otherwise exit with 3.")
]
IfMatch = Annotated[
    str | None,
    Parameter(
        "--if-match",
        metavar="ETAG",
        help="Only over the blob that has this ETag (see 'holdall info'); otherwise exit with 3.",
    ),
]


def expectation(if_absent: bool, if_match: str | None) -> Expect:
    """Return what `Store.put` must expect."""
    if if_absent and if_match is not None:
        raise UsageFault("--if-absent and --if-match exclude each other")
    if if_absent:
        return ABSENT
    return ANY if if_match is None else if_match
