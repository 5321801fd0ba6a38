"""Run the attacks, print what they counted as a table, and fail if a promise broke."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from campaign import catalogs, damage, disks, holders, links, processes
from campaign.attacks import Tally
from campaign.stores import GUARDED, KEY_NAME, ON_DISK, Make, everything
from holdall import EncryptedStore

FOLDERS = ("FilesystemStore", "HashdirStore", "GitStore")


def attacks(stores: dict[str, Make]) -> dict[str, tuple[float, Callable[[float], Tally]]]:
    """Return each attack with its share of the time."""
    folders = {name: ON_DISK[name] for name in FOLDERS}
    return {
        "kills in a catalogue": (0.1, catalogs.attack),
        "kills": (0.2, lambda seconds: Tally("kills").run(stores, processes.kill, seconds)),
        "interrupts": (0.25, lambda seconds: Tally("interrupts").run(stores, processes.interrupt, seconds)),
        "holders of a lock": (
            0.05,
            lambda seconds: Tally("holders of a lock").run(stores, holders.harass, seconds),
        ),
        "calls on a full disk": (
            0.1,
            lambda seconds: Tally("calls on a full disk").run(ON_DISK, disks.fill, seconds),
        ),
        "flipped bits": (0.1, lambda seconds: Tally("flipped bits").run(GUARDED, damage.flip, seconds)),
        "calls beside swapped links": (
            0.1,
            lambda seconds: Tally("calls beside swapped links").run(folders, links.swap, seconds),
        ),
        "random steps": (0.1, lambda seconds: Tally("random steps").run(stores, processes.walk, seconds)),
    }


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long all of it may take")
    parser.add_argument("--only", action="append", help="one kind of attack, such as kills; may be repeated")
    options = parser.parse_args()
    os.environ.setdefault(KEY_NAME, EncryptedStore.generate_key().hex())
    tallies: list[Tally] = []
    with everything() as stores:
        known = attacks(stores)
        chosen = options.only or list(known)
        if unknown := set(chosen) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        total = sum(known[name][0] for name in chosen)
        for name in chosen:
            share, attack = known[name]
            start = time.monotonic()
            tallies.append(attack(options.minutes * 60 * share / total))
            counted = sum(tallies[-1].counts.values())
            print(f"{counted:,} {name} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print("| attack | stores | count | faults |\n| --- | --- | --: | --: |")
    for tally in tallies:
        print(
            f"| {tally.name} | {len(tally.counts)} | {sum(tally.counts.values()):,} | {len(tally.faults)} |"
        )
    for fault in (fault for tally in tallies for fault in tally.faults):
        print(f"\n{fault}", file=sys.stderr)
    return 1 if any(tally.faults for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
