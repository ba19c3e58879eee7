"""Collects what does not hold, so that one run shows everything."""

import sys

faults = []


def check(holds, what):
    if not holds:
        faults.append(what)
        print(f"FAULT: {what}", file=sys.stderr, flush=True)


def conclude(said):
    """Ends with 1 if anything did not hold, and otherwise says what holds."""
    if faults:
        sys.exit(f"{len(faults)} faults")
    print(said)
