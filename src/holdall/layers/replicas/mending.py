"""Comparing replicas, and making them equal, so that no newer write is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from holdall.errors import ConcurrencyError, IntegrityError, InvalidArgumentError
from holdall.layers.replicas.calls import ROUNDS, Replicas, never_equal, unavailable
from holdall.layers.replicas.copying import digest, digested_blob
from holdall.layers.replicas.marks import Mark
from holdall.layers.replicas.memory import Memory, Witnesses
from holdall.layers.replicas.reading import Reader
from holdall.store import ANY, Info

Rule: TypeAlias = "Literal['first', 'newest'] | Callable[[str, Mapping[str, Info | None]], str]"
"""The rule that decides which replica is right where they differ."""


class ReplicaDifference(NamedTuple):
    """A key whose replicas are not equal, or can't be compared."""

    key: str
    digests: dict[str, str | None]
    """For each replica that answered the SHA-256 of its blob, None where it has none."""
    failures: dict[str, Exception]
    """By its name, why a replica didn't answer."""


@dataclass
class Repair:
    """The result of a repair. It is true if everything was mended."""

    mended: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """For each key and replica that was changed: `copied` or `deleted`."""
    failures: dict[str, dict[str, Exception]] = field(default_factory=dict[str, dict[str, Exception]])
    """By key, the replicas that couldn't be mended, and why."""
    unlisted: dict[str, Exception] = field(default_factory=dict[str, Exception])
    """The replicas whose keys couldn't all be listed, and why: they may have blobs that the others lack."""

    def __bool__(self) -> bool:
        return not self.failures and not self.unlisted

    def note(self, key: str, name: str, action: str) -> None:
        """Add what was done."""
        self.mended.setdefault(key, {})[name] = action


def leader(rule: Rule, key: str, replicas: Mapping[str, Info | None]) -> str:
    """Return the name of the replica that is right by a rule."""
    there = {name: info for name, info in replicas.items() if info is not None}
    if rule == "first":
        return next(iter(there))
    if rule == "newest":
        return max(there, key=lambda name: there[name].modified)
    name = rule(key, dict(replicas))
    if name not in replicas:
        raise InvalidArgumentError(
            f"the rule named {name!r}, which isn't a replica; expected one of {', '.join(replicas)}", key=key
        )
    return name


class Mender:
    """Compares replicas and makes them equal."""

    def __init__(self, replicas: Replicas, memory: Memory, reader: Reader) -> None:
        self._replicas, self._memory, self._reader = replicas, memory, reader

    def unmark(self, key: str, name: str) -> bool:
        """Remove a mark from a replica; return whether one was there."""
        found = self._replicas.state(key, name)
        if not isinstance(found, Mark):
            return False
        with suppress(ConcurrencyError):
            self._replicas.call(name, self._replicas.stores[name]._delete, key, found)
        return True

    def mend(self, key: str, report: Repair) -> None:
        """Copy a change to the replicas that missed it, if others still hold what it made."""
        with self._replicas.turn(key):
            for name, witnesses in self._memory.missed(key).items():
                try:
                    for _ in range(ROUNDS):
                        with suppress(ConcurrencyError):
                            if self._follow(key, name, witnesses, report):
                                break
                    else:
                        raise never_equal(key)
                except Exception as error:  # noqa: BLE001 - it is in the report
                    report.failures.setdefault(key, {})[name] = error
                    continue
                self._memory.note_mended(key, name)

    def _follow(self, key: str, name: str, witnesses: Witnesses, report: Repair) -> bool:
        """Make a replica like the first of the witnesses that answers; return False to try again."""
        replicas, failure = self._replicas, None
        for witness, etag in witnesses.items():
            own = replicas.call(name, digest, key, replicas.stores[name])
            source = replicas.stores[witness]
            try:
                right = digested_blob(replicas.call(witness, digest, key, source))
            except Exception as error:  # noqa: BLE001 - another witness may answer
                failure = error
                continue
            version = right and right[0].etag
            if etag is not ANY and version != etag:
                # Another writer has written since, and has made all replicas equal.
                continue
            if (own and own[1]) == (right and right[1]):
                return True
            copied, _ = replicas.copy(key, source, name, own and own[0].etag)
            if copied != version:
                return False
            report.note(key, name, "deleted" if copied is None else "copied")
            return True
        if failure is not None:
            raise failure
        return True

    def differences(self, prefix: str) -> Iterator[ReplicaDifference]:
        """Yield the keys whose replicas differ, in order; a writer between two replicas isn't a difference: a
        difference lasts.

        Raises:
            StoreUnavailableError: At the end, if a replica couldn't be listed.
        """
        unlisted: dict[str, Exception] = {}
        for key in self._keys(prefix, unlisted):
            difference = None
            seen: object = ""
            while (found := self._compare_digests(key))[0] != seen:
                seen, difference = found
                if difference is None:
                    break
            if difference is not None:
                yield difference
        if unlisted:
            raise unavailable("replicas failed to list all their keys", unlisted)

    def _keys(self, prefix: str, unlisted: dict[str, Exception]) -> Iterator[str]:
        listing = self._reader.merged(prefix, lambda store: store._keys(prefix, ""), str, unlisted)
        return (key for _, key in listing)

    def _compare_digests(self, key: str) -> tuple[object, ReplicaDifference | None]:
        known, failures = self._digests(key)
        blobs = {name: digested_blob(each) for name, each in known.items()}
        digests = {name: each and each[1] for name, each in blobs.items()}
        if not failures and len(set(digests.values())) == 1:
            return "", None
        versions = {name: each and each[0].etag for name, each in blobs.items()}
        return (versions, set(failures)), ReplicaDifference(key, digests, failures)

    def _digests(self, key: str) -> tuple[dict[str, tuple[Info, str] | None], dict[str, Exception]]:
        found = self._replicas.digests(key)
        failures = {name: each for name, each in found.items() if isinstance(each, Exception)}
        return {name: each for name, each in found.items() if not isinstance(each, Exception)}, failures

    def repair(self, rule: Rule, prefix: str) -> Repair:
        """Mend the replicas that are behind, then make all equal by a rule."""
        report = Repair()
        for key in self._memory.report():
            if key.startswith(prefix):
                self.mend(key, report)
        for key in self._keys(prefix, report.unlisted):
            if key not in report.failures:
                with self._replicas.turn(key):
                    self._equalize(key, rule, report)
        return report

    def _equalize(self, key: str, rule: Rule, report: Repair) -> None:
        given: dict[str, tuple[str | None, str | None]] = {}
        for _ in range(ROUNDS):
            known, failures = self._digests(key)
            if failures:
                report.failures[key] = failures
                return
            blobs = {name: digested_blob(each) for name, each in known.items()}
            digests = {name: each and each[1] for name, each in blobs.items()}
            if len(set(digests.values())) == 1:
                # No replica has a blob; remove the mark that a killed repair left.
                for name in known:
                    if known[name] is not None and blobs[name] is None:
                        self.unmark(key, name)
                return
            right = leader(rule, key, {name: each and each[0] for name, each in blobs.items()})
            stale = [name for name in known if digests[name] != digests[right]]
            if digests[right] is None:
                stale.reverse()
            chosen, source = blobs[right], self._replicas.stores[right]
            version = chosen and chosen[0].etag
            for name in stale:
                etag = (before := known[name]) and before[0].etag
                try:
                    if given.get(name) == (version, etag):
                        message = "it was copied here, and now reads as other bytes; check the medium"
                        raise IntegrityError(message, key=key)
                    given[name] = self._replicas.copy(key, source, name, etag)
                except ConcurrencyError:
                    break
                except Exception as error:  # noqa: BLE001 - it is in the report
                    report.failures.setdefault(key, {})[name] = error
                    return
                report.note(key, name, "deleted" if given[name][0] is None else "copied")
                if given[name][0] != version:
                    break
        report.failures.setdefault(key, {})[self._replicas.first] = never_equal(key)
