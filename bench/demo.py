"""The demo's first act, TRIES times (10): how many are GO, and how long does one take? Writes reports/bench/demo.json.

    python bench/demo.py [TRIES]

A try is `hotfire demo --only smollm-sound`: stand up, baseline, the candidate under load and two faults, stand down. It is GO
when hotfire says so and kubectl and a request, not hotfire, see the candidate serve. Runs are kept in reports/bench/demo/.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

OUT = Path(__file__).parents[1] / "reports" / "bench"


def once() -> tuple[bool, float]:
    """(GO, seconds) of one try; what it said last where it was not GO."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "hotfire.cli", "demo", "--only", "smollm-sound", "--reports", str(OUT / "demo")]
    ended = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        print("\n".join(ended.stdout.splitlines()[-40:]))
    return ended.returncode == 0, time.monotonic() - began


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tries", nargs="?", type=int, default=10)
    tries = []
    for number in range(1, parser.parse_args().tries + 1):
        go, seconds = once()
        tries.append({"go": go, "s": round(seconds, 1)})
        print(f"{number:>4} {'GO' if go else 'not GO':>8} {seconds:>8.1f} s", flush=True)
    go, ordered = sum(one["go"] for one in tries), sorted(one["s"] for one in tries)
    median = (ordered[(len(tries) - 1) // 2] + ordered[len(tries) // 2]) / 2
    print(f"{go} of {len(tries)} GO, median {median:.1f} s")
    figures = {"go": go, "of": len(tries), "demo_s": round(median, 1)}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "demo.json").write_text(json.dumps({"figures": figures, "tries": tries}, indent=1) + "\n")


if __name__ == "__main__":
    main()
