"""`make campaign`: the long form and its scorecard. `ARGS="--short"` is what `make test` runs."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from bench.table import machine
from campaign import (
    cells,
    disk,
    engines,
    hardware,
    housekeeping,
    kill,
    memory,
    planted,
    postgres,
    power,
    term,
    upstream,
)
from campaign.score import Score, markdown

SCENARIOS: dict[str, Callable[..., list[Score]]] = {
    "kill": kill.run,
    "housekeeping": housekeeping.run,
    "power": power.run,
    "disk": disk.run,
    "hardware": hardware.run,
    "postgres": postgres.run,
    "engines": engines.run,
    "upstream": upstream.run,
    "cells": cells.run,
    "term": term.run,
    "memory": memory.run,
    "planted": planted.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000))
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in SCENARIOS]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    about = machine() | {"seed": str(options.seed)}
    print("\n".join(f"{key:8} {value}" for key, value in about.items()), "\n", flush=True)
    scores: list[Score] = []
    for name in options.only or SCENARIOS:
        begun = time.monotonic()
        print(f"… {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as folder:
            try:
                scores += SCENARIOS[name](Path(folder), options.seed, long=not options.short)
            except Exception as error:
                traceback.print_exc()
                scores.append(Score(name, "", faults=[f"{type(error).__name__}: {error}".splitlines()[0]]))
        print(f"  {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print(markdown(scores))
    return 0 if all(score.passed for score in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
