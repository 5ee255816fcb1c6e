"""SIGKILL at the points where a run is most vulnerable: a small part of `make crash-matrix`, judged by the same comparer."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
POINTS = ("lease-taken", "applying-intent", "applying-half", "fault-open", "confirmed", "restoring-half", "restored")


def test_a_killed_run_ends_exactly_old_or_exactly_new_and_leaves_nothing(embedded, tmp_path: Path) -> None:
    out = tmp_path / "crash.json"
    command = [sys.executable, str(ROOT / "bench" / "crash_matrix.py"), "--only", "named", "--per-point", "1", "--side", "3"]
    command += ["--prefix", "crash-part", "--out", str(out), "--points", *POINTS]
    command += ["--stand", embedded.stand.name, "--gpus", str(embedded.stand.gpus_per_node)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads(out.read_text())["figures"]
    assert figures["kills"] == figures["mixed_states_n"] == figures["survivors_n"] == len(POINTS)
    assert [figures[key] for key in ("mixed_states", "orphans", "wrong_verdicts", "survivors")] == [0, 0, 0, 0]
