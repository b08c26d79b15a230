"""`make bench`: every scenario, or those named: `make bench ARGS="relay link --quick"`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from bench import scenarios
from bench.table import Row, machine, markdown, save


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="SCENARIO", help=", ".join(scenarios.ALL))
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the messages: for trying, not for quoting"
    )
    parser.add_argument("--json", type=Path, default=Path("bench/results/latest.json"))
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in scenarios.ALL]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(scenarios.ALL)}")
    about = machine()
    print("\n".join(f"{key:8} {value}" for key, value in about.items()), "\n", flush=True)
    rows: list[Row] = []
    broken = []
    for name in options.only or scenarios.ALL:
        print(f"… {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)
            try:
                rows += scenarios.ALL[name](Path(folder), 0.1 if options.quick else 1.0)
            except Exception:
                broken.append(name)
                traceback.print_exc()
    print(markdown(rows))
    save(options.json, about, rows)
    print(f"\nwritten to {options.json}", file=sys.stderr)
    if broken:
        print(f"failed: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
