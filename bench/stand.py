"""The embedded stand, five times: up, down, resident memory, what is left. Writes reports/bench/stand.json (medians).

Everything is on disk before the first time. Budget (design): up 15 s, down 5 s, nothing left.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from hotfire.stand.embedded import lifecycle
from hotfire.stand.embedded.leftovers import Machine
from hotfire.stand.embedded.plan import Stand

TIMES = 5
STAND = Stand(name="bench")
OUT = Path(__file__).parents[1] / "reports" / "bench" / "stand.json"


def command(verb: str) -> float:
    """Seconds of `hotfire stand VERB` as a user waits for it, the start of Python included."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "hotfire.stand.commands", verb, "--name", STAND.name]
    subprocess.run(argv, check=True, capture_output=True)
    return time.monotonic() - began


def once() -> dict[str, float]:
    """One life of a stand."""
    before = Machine.look()
    up_s = command("up")
    found = lifecycle.status(STAND)
    if found is None or not all(found.nodes.values()) or len(found.nodes) != 3:
        raise SystemExit(f"the stand is not up: {found}")
    down_s = command("down")
    left = before.changes(Machine.look())
    for line in left:
        print("left behind:", line)
    return {"up_s": up_s, "down_s": down_s, "leftovers": len(left), "rss_mb": found.resident_mb}


def main() -> None:
    """Measure, print the table, write the figures."""
    lifecycle.up(STAND, wait_s=600, say=print)
    lifecycle.down(STAND)
    lives = [once() for _ in range(TIMES)]
    columns = list(lives[0])
    print("".join(f"{c:>12}" for c in columns))
    for life in lives:
        print("".join(f"{life[c]:>12.1f}" for c in columns))
    figures = {c: round(sorted(life[c] for life in lives)[TIMES // 2], 2) for c in columns}  # medians of an odd number
    print("".join(f"{figures[c]:>12.1f}" for c in columns), " median")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"figures": figures, "lives": lives}, indent=1) + "\n")


if __name__ == "__main__":
    main()
