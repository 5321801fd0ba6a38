"""The commands that maintain a stack: keygen and rotate for encryption, repair for replicas."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, TypeVar

from holdall.cli.errors import UNAVAILABLE, UsageFault, describe
from holdall.cli.options import Json, KeyPrefix, StoreArgument, StoreOption
from holdall.cli.output import Output, amount, dumps
from holdall.cli.parameters import Parameter
from holdall.cli.places import read_from
from holdall.cli.reports import Failures
from holdall.cli.stores import store_name
from holdall.errors import StoreError
from holdall.layers.layer import Layer
from holdall.store import Store

T = TypeVar("T", bound=Store)


def keygen(
    file: Annotated[
        str | None,
        Parameter(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a new file that only you can read, instead of standard output.",
        ),
    ] = None,
) -> None:
    """Make a key for an encrypted store.

    It is 32 random bytes, in hexadecimal. A store takes it as env:NAME or file:PATH. If the key is lost, the
    blobs are lost.

    Examples:
      holdall keygen --output ~/.config/backup.key
      export BACKUP_KEY=$(holdall keygen)
    """
    from holdall.layers.encrypted import EncryptedStore

    text = EncryptedStore.generate_key().hex()
    if file is None:
        Output().line(text)
        return
    try:
        # A key that is there is never replaced: its blobs could not be read any more.
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageFault(f"{file!r} exists, perhaps as the only copy of a key; name a new file") from None
    except OSError as error:
        raise UsageFault(f"--output can't be written: {describe(error)}") from error
    try:
        with open(number, "w") as key:
            key.write(text + "\n")
    except BaseException as error:
        os.unlink(file)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, file) from error  # such as a full disk
        raise


def rotate(
    place: StoreArgument = None, prefix: KeyPrefix = "", json: Json = False, store: StoreOption = None
) -> int:
    """Encrypt with the current key what an encrypted store holds under older keys.

    Name the store in holdall.toml, with both keys. Blobs that can't be opened are printed, and the exit code
    is 4; keep the old key until there are none.

    Example:
      holdall rotate vault:
    """
    from holdall.layers.encrypted import EncryptedStore

    with read_from(store_name(store, place)) as found, Failures() as failures:
        report = _layer(found, EncryptedStore, "encrypted", "encrypt").rotate(prefix)
        for error in report.failures.values():
            failures.report(describe(error))
    if json:
        errors = {key: describe(error) for key, error in report.failures.items()}
        Output().line(dumps({"rotated": report.rotated, "current": report.current, "failures": errors}))
    else:
        rest = f", {amount(len(report.failures), 'failure')}" if report.failures else ""
        Output().line(f"{amount(report.rotated, 'blob')} rotated, {report.current:,} were current{rest}")
    return UNAVAILABLE if report.failures else 0


def repair(
    place: StoreArgument = None,
    prefix: KeyPrefix = "",
    rule: Annotated[
        str,
        Parameter("--rule", metavar="RULE", help="Which replica is right if they differ: first or newest."),
    ] = "first",
    json: Json = False,
    store: StoreOption = None,
) -> int:
    """Make the replicas of a store equal.

    Where replicas differ, the blob is taken from the first replica that has it, or with --rule newest from
    the one that was written last. What can't be mended is printed, and the exit code is 4.

    Example:
      holdall repair photos: --prefix 2026/
    """
    from holdall.layers.fanout import FanoutStore

    if rule not in ("first", "newest"):
        raise UsageFault(f"--rule takes first or newest, not {rule!r}")
    with read_from(store_name(store, place)) as found, Failures() as failures:
        report = _layer(found, FanoutStore, "replicated", "replicas").repair(rule, prefix)
        failed = {key: _texts(errors) for key, errors in report.failures.items()}
        unlisted = _texts(report.unlisted)
        for key, texts in failed.items():
            for name, text in texts.items():
                failures.report(f"{key!r} in replica {name!r}: {text}")
        for name, text in unlisted.items():
            failures.report(f"replica {name!r} can't be listed: {text}")
    if json:
        Output().line(dumps({"mended": report.mended, "failures": failed, "unlisted": unlisted}))
    else:
        rest = f", {len(failed):,} can't be mended" if failed else ""
        Output().line(f"{amount(len(report.mended), 'key')} mended{rest}")
    return 0 if report else UNAVAILABLE


def _layer(store: Store, kind: type[T], name: str, setting: str) -> T:
    """Return the first layer of a kind in a stack, from the top."""
    waiting = [store]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, kind):
            return each
        if isinstance(each, Layer):
            waiting += each._below
    raise UsageFault(
        f"{store!r} isn't {name}; name a store of holdall.toml that has {setting} = ... ('holdall info' "
        "shows what a store is)"
    )


def _texts(errors: Mapping[str, Exception]) -> dict[str, str]:
    return {
        name: describe(error) if isinstance(error, StoreError) else repr(error)
        for name, error in errors.items()
    }
