"""Writes and deletes of replicas: a quorum takes them, and all that took them agree with the arbiter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import cast

from holdall.errors import BlobExistsError, ConcurrencyError
from holdall.layers.replicas.calls import REFUSALS, ROUNDS, Replicas, never_equal, typed
from holdall.layers.replicas.copying import digest
from holdall.layers.replicas.marks import Mark, is_none
from holdall.layers.replicas.memory import Memory
from holdall.layers.replicas.mending import Mender, Repair
from holdall.layers.replicas.reading import Reader, foreign_etag, split_etag
from holdall.layers.replicas.tee import Tee
from holdall.store import ABSENT, ANY, Attributes, Body, Expect, Info
from holdall.workers import Call

_TRIES = 20
_GRACE = 1.0
"""Seconds that a blob which the first replica lacks is left to the writer or deleter who may be at it."""
_NOTHING = ""
"""No version: no ETag is empty."""
_SHORT = 1 << 16
"""The most bytes that are written to one near replica after the other: more are written at the same time."""


class Writer:
    """Writes to replicas."""

    def __init__(self, replicas: Replicas, memory: Memory, reader: Reader, mender: Mender) -> None:
        self._replicas, self._memory, self._reader, self._mender = replicas, memory, reader, mender
        self._first, self._others = replicas.first, replicas.others

    def write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        """Write a blob to all replicas."""
        expect = self._own_etag(key, expect)
        if expect is ABSENT:
            self._check_others_lack(key)
        try:
            return self._publish(key, body, expect, attributes)
        except BlobExistsError:
            # A mark isn't a blob.
            if not self._mender.unmark(key, self._first) or not isinstance(body, tuple):
                raise
        return self._publish(key, body, expect, attributes)

    def _publish(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        replicas = self._replicas
        near = replicas.near and isinstance(body, tuple)
        try:
            if replicas.inline or (near and sum(map(len, body)) <= _SHORT):
                return self._write_in_turn(key, body, expect, attributes)
            return self._write_at_once(key, body, expect, attributes)
        except ConcurrencyError:
            raise
        except BaseException:
            self._memory.note_doubt(key)
            raise

    def _write_in_turn(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        """Write to one after the other, from memory, where all may keep the same bytes."""
        pieces = [piece if type(piece) is bytes else bytes(piece) for piece in body]
        data = (pieces[0] if len(pieces) == 1 else b"".join(pieces),)
        del pieces
        with self._replicas.turn(key):
            absent = self._is_absent(key, expect)
            outcomes: dict[str, Info | Exception] = {}
            for name, store in self._replicas.stores.items():
                condition = expect if name == self._first else ANY
                try:
                    outcomes[name] = store._write(key, data, condition, attributes)
                except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                    if name == self._first and (expect is not ANY or isinstance(error, REFUSALS)):
                        raise typed(name, error) from None
                    outcomes[name] = error
            return self._conclude_put(key, outcomes, absent)

    def _write_at_once(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        """Write in threads, which all see the body at once, and its end when it is their turn."""
        replicas, tee = self._replicas, Tee(self._replicas.names, self._replicas.timeout)

        def run(name: str) -> Info:
            condition = expect if name == self._first else ANY
            try:
                return replicas.stores[name]._write(key, tee.reader(name), condition, attributes)
            finally:
                tee.gone(name)

        def outcome(name: str) -> Info | Exception:
            try:
                return replicas.awaited(calls[name])
            except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                if isinstance(error, TimeoutError):
                    tee.fail(error, name)
                given_up = tee.error(name)
                return given_up if isinstance(given_up, Exception) else error

        calls = {name: Call(partial(run, name)) for name in replicas.names}
        try:
            for name, call in calls.items():
                replicas.workers[name].begin(call)
            # The caller's one buffer stays as it is until this returns; one of many is filled again.
            kept = isinstance(body, tuple) and replicas.timeout is None
            for piece in body:
                if not tee.feed(piece if kept or type(piece) is bytes else bytes(piece)):
                    break
            with replicas.turn(key):
                absent = self._is_absent(key, expect)
                tee.open(self._first)
                outcomes = {self._first: outcome(self._first)}
                error = outcomes[self._first]
                if isinstance(error, Exception) and (expect is not ANY or isinstance(error, REFUSALS)):
                    raise typed(self._first, error) from None
                tee.open(*self._others)
                outcomes |= {name: outcome(name) for name in self._others}
                return self._conclude_put(key, outcomes, absent)
        except BaseException as error:
            # Readers that still wait for more, or for the end, must never see it.
            tee.fail(error, *replicas.names)
            replicas.wait(calls.values())
            raise

    def _is_absent(self, key: str, expect: Expect) -> bool:
        """Return whether a put of a new key can be taken back: stores of one kind all accept it, or none
        does."""
        self._check_arbiter(key, expect)
        if expect is ANY and self._replicas.mixed and self._first not in self._memory.missed(key):
            return is_none(self._replicas.states(key, (self._first,))[self._first])
        return expect is ABSENT

    def _conclude_put(self, key: str, outcomes: dict[str, Info | Exception], absent: bool) -> Info:
        """Return the result of a put: every replica follows the arbiter, or is reported as failed."""
        held: dict[str, str | None] = {
            name: each.etag for name, each in outcomes.items() if isinstance(each, Info)
        }
        failures = _errors(outcomes) if len(held) < len(outcomes) else {}
        refusal = next((error for error in failures.values() if isinstance(error, REFUSALS)), None)
        if not held:
            raise self._replicas.partial(key, (), failures, "write")
        if refusal is not None and absent:
            self._take_back(key, held, failures)
            raise refusal
        first = next(iter(held))
        failures |= self._settle(key, first, held, held[first])
        self._conclude(key, held, failures, "write")
        return self._reader.shown(first, cast(Info, outcomes[first]))

    def _take_back(self, key: str, held: dict[str, str | None], failures: dict[str, Exception]) -> None:
        """Delete what the others took, and what wasn't there before: another has no place for it."""
        stores, atomic = self._replicas.stores, self._replicas.atomic
        lost = _errors(
            self._replicas.each(held, lambda name: stores[name]._delete(key, (atomic and held[name]) or ANY))
        )
        if any(not isinstance(error, ConcurrencyError) for error in lost.values()):
            raise self._replicas.partial(key, lost, failures, "write")

    def delete(self, key: str, expect: Expect) -> bool:
        """Delete a blob from all replicas; return whether it was there for readers."""
        try:
            own = self._own_etag(key, expect)
            with self._replicas.turn(key):
                for _ in range(_TRIES):
                    try:
                        return self._delete(key, own, exact=True)
                    except ConcurrencyError:
                        # Without a condition of the caller's, the blob of another writer goes, too.
                        if own is not ANY:
                            raise
                return self._delete(key, own, exact=False)
        except ConcurrencyError:
            raise
        except BaseException:
            self._memory.note_doubt(key)
            raise

    def _delete(self, key: str, expect: Expect, *, exact: bool) -> bool:
        first, names = self._first, self._replicas.names
        states = self._replicas.states(key, names)
        own = states[first]
        self._check_arbiter(key, expect)
        if expect is not ANY:
            if isinstance(own, Exception):
                raise typed(first, own) from None
            if own != expect:
                raise ConcurrencyError(key=key, expected=str(expect), actual=own)
        outcomes = self._remove(key, expect, states, exact and self._replicas.atomic)
        failures = _errors(outcomes)
        held: dict[str, str | None] = dict.fromkeys(name for name in names if name not in failures)
        lost = failures.get(first)
        if lost is not None and (expect is not ANY or isinstance(lost, ConcurrencyError)):
            raise self._conclude_delete(key, held, lost)
        if held:
            failures |= self._settle(key, next(iter(held)), held, None)
        current = self._memory.current(key)
        self._conclude(key, held, failures, "delete")
        current = [name for name in current if not isinstance(states[name], Mark)]
        if isinstance(own, str) and first in current and lost is None:
            return outcomes[first] is True
        # A replica that failed to answer had it, and for readers of this store it is gone.
        return any(
            outcomes[name] is True or (name in failures and isinstance(states[name], str)) for name in current
        )

    def _remove(
        self, key: str, expect: Expect, states: dict[str, str | Exception | None], exact: bool
    ) -> dict[str, bool | Exception]:
        """Delete a blob from each replica that has one: from the arbiter last, so that what readers saw is
        what they see until nothing is left. If `exact`, no other version than what was found goes: a replica
        that is too slow may delete after its time, when there is another writer's."""

        def remove(name: str) -> bool:
            store, found = self._replicas.stores[name], states[name]
            is_first = name == self._first
            if not isinstance(found, str) or (not exact if expect is ANY else is_first):
                return store._delete(key, expect if is_first else ANY)
            if is_first:
                return store._delete(key, found)
            try:
                return store._delete(key, found)
            except ConcurrencyError:
                # Another writer is at it; the arbiter decides who was first.
                return False

        outcomes: dict[str, bool | Exception] = dict.fromkeys(self._others, False)
        there = [name for name in self._others if states[name] is not None]
        outcomes |= self._replicas.each(there, remove, short=True)
        return outcomes | self._replicas.each((self._first,), remove, short=True)

    def _conclude_delete(self, key: str, held: dict[str, str | None], lost: Exception) -> Exception:
        """Return the error of a delete that the arbiter refused or didn't confirm, once the others follow it:
        blobs that were deleted already come back, as the arbiter has them."""
        failures = self._settle(key, self._first, held, _NOTHING)
        if isinstance(lost, ConcurrencyError):
            return lost
        if not failures:
            return typed(self._first, lost)
        failures = {self._first: lost, **failures}
        self._memory.note_change(key, held, failures)
        return self._replicas.partial(key, held, failures, "delete")

    def _settle(
        self, key: str, arbiter: str, held: dict[str, str | None], version: str | None
    ) -> dict[str, Exception]:
        """Make the replicas that were written agree with the arbiter; return which failed to, and why.

        Each writer is responsible for what it wrote, until each replica holds the same as the arbiter, or the
        blob of another writer, which is responsible for it in the same way. Case 1: this writer was the last
        at the arbiter; then it sees the replicas that differ. Case 2: it wrote to another replica later than
        the last writer of the arbiter; then it sees that the arbiter has changed.

        `held` has the ETags of what was written to each, None for what was deleted, and is kept up. `version`
        is the ETag that the arbiter gave to this.
        """
        failures: dict[str, Exception] = {}
        others = [name for name in held if name != arbiter]
        if not self._replicas.atomic or not others:
            return failures
        copied = dict.fromkeys(others, version)
        mine = {**held, arbiter: version}
        for _ in range(ROUNDS):
            states = self._replicas.states(key, (arbiter, *others))
            if states == mine:
                # No other writer came between, as nearly always.
                break
            now = states[arbiter]
            if isinstance(now, Exception):
                # It accepted the write, and fails to say whether that is still there.
                failures[arbiter] = now
                break
            if isinstance(now, Mark):
                # It isn't there any more, and is about to be copied back from what is left of it elsewhere.
                with suppress(ConcurrencyError):
                    self._replicas.stores[arbiter]._delete(key, now)
                continue
            stale: dict[str, str | None] = {}
            for name in tuple(others):
                found = states[name]
                if isinstance(found, Exception):
                    failures[name] = found
                    others.remove(name)
                elif (now == copied[name]) != (found == held[name]):
                    stale[name] = found
                elif now != copied[name]:
                    others.remove(name)
            if not stale:
                break
            for name, found in stale.items():
                try:
                    source = self._replicas.stores[arbiter]
                    copied[name], held[name] = self._replicas.copy(key, source, name, found)
                except ConcurrencyError:
                    continue
                except Exception as error:  # noqa: BLE001 - it is reported, with the name of the replica
                    failures[name] = error
                    others.remove(name)
        else:
            raise never_equal(key)
        for name in failures:
            held.pop(name, None)
        return failures

    def _conclude(
        self, key: str, held: dict[str, str | None], failures: dict[str, Exception], what: str
    ) -> None:
        """Remember which replicas missed a change, then acknowledge it if enough took it, or raise."""
        # Also if too few took it: a reader that has seen it must not see an older version later.
        self._memory.note_change(key, held, failures)
        if len(held) < self._replicas.need:
            raise self._replicas.partial(key, held, failures, what)
        for name, error in failures.items():
            self._replicas.log_failure(what, key, name, error)

    def _own_etag(self, key: str, expect: Expect) -> Expect:
        """Return the arbiter's ETag for an ETag of the fan-out; one of another replica matches nothing
        there."""
        if expect is not ANY and self._first in self._memory.missed(key):
            # One that is behind would decide by what it missed.
            report = Repair()
            self._mender.mend(key, report)
            failure = report.failures.get(key, {}).get(self._first)
            if failure is not None:
                raise typed(self._first, failure) from failure
        if not isinstance(expect, str):
            return expect
        name, etag = split_etag(expect)
        if name is None:
            return etag
        if name in self._others:
            self._fill_arbiter(key, name, etag)
            # A blob that the arbiter has and can't read would be read elsewhere and refused here forever.
            try:
                self._replicas.call(self._first, digest, key, self._replicas.stores[self._first])
            except Exception as error:  # a replica may be anybody's store
                raise typed(self._first, error) from error
            self._memory.forget_failures(key)
        raise ConcurrencyError(key=key, expected=expect, actual=self._replicas.state(key, self._first))

    def _check_arbiter(self, key: str, expect: Expect) -> None:
        """Refuse a condition if the arbiter missed a write that came before this turn."""
        if expect is not ANY and self._first in self._memory.missed(key):
            raise (BlobExistsError if expect is ABSENT else ConcurrencyError)(key=key)

    def _check_others_lack(self, key: str) -> None:
        """Refuse to create a blob that readers find in another replica, even if the arbiter lacks it."""
        others = [name for name in self._memory.current(key) if name != self._first]
        for name, found in self._replicas.states(key, others).items():
            if isinstance(found, str) and not is_none(found):
                own = self._replicas.state(key, self._first)
                etag = foreign_etag(name, found) if own is None or is_none(own) else foreign_etag(None, own)
                raise BlobExistsError(key=key, actual=etag)

    def _fill_arbiter(self, key: str, name: str, etag: str) -> None:
        """Copy a blob that only others have to the arbiter, so that the next swap can be decided.

        Another writer may be writing or deleting such a blob right now; then it is left alone."""
        replicas, deadline = self._replicas, time.monotonic() + _GRACE
        while is_none(own := replicas.state(key, self._first)) and replicas.state(key, name) == etag:
            if time.monotonic() > deadline:
                try:
                    replicas.copy(key, replicas.stores[name], self._first, own)
                except ConcurrencyError:
                    return
                except Exception as error:
                    raise typed(self._first, error) from error
                return
            time.sleep(0.01)


def _errors(outcomes: Mapping[str, object]) -> dict[str, Exception]:
    return {name: each for name, each in outcomes.items() if isinstance(each, Exception)}
