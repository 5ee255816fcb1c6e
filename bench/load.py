"""How true is the load client? Measured against a server that writes the truth, one client core, one server core.

    python bench/load.py [--runs 5] [--quick] [--only NAME ...]     about 25 minutes; the table goes to the standard output

Writes reports/bench/load.json {"figures": {...}, "cells": {...}}. Tokens come at 50 a second per stream. On one machine
the kernel's stamp bounds the reading side only: what a network does before it is not in these figures. Run it on a quiet
machine: `steal` and `load_before` are in the cells. Tools made for this (bench/tools.py) are quoted beside
ours, and with PEERS=1 in the environment all three are installed (8 GB) and measured.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tools import QUOTED, TOOLS, Tool, ToolError, installed, run

from hotfire.gates.statistics import judge_rated, percentile
from hotfire.load.plan import Prompt, draw
from hotfire.load.run import LoadRun
from hotfire.load.samples import COLUMNS, Samples, Tail, Writer, pack_gaps, read, unpack_gaps
from hotfire.load.target import Target
from hotfire.report import objective
from hotfire.scenario.model import Load, Slo, Stall
from hotfire.words import Outcome

HERE = Path(__file__).parent
OUT = HERE.parent / "reports" / "bench"
SERVER_CPU, CLIENT_CPU = 0, 1
TOKENS, ITL_MS, TTFT_MS = 150, 20.0, 200.0
STARVED_MS = 30.0  # a p99 gap at the server above this: the machine took the time, there is no truth to compare with
STOLEN = 0.01  # share of the client's CPU from which on a run says more of the host than of the client
OVERLOAD = 15_000  # requests a second, of one token: a core sends about 5,000
Cell = dict[str, Any]


class Truth:
    """The logging server, for one run."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.path = folder / "truth.jsonl"
        command = [sys.executable, str(HERE / "server.py"), "--truth", str(self.path), "--cpu", str(SERVER_CPU), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def log(self) -> dict[str, tuple[int, list[int]]]:
        """{request id: (received ns, [sent ns, ...])}"""
        self.process.terminate()
        self.process.wait()
        lines = (json.loads(line) for line in self.path.read_text().splitlines())
        return {line["rid"]: (line["recv"], line["sends"]) for line in lines}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hotfire-bench-") as path:
        yield Path(path)


def ours(
    arrivals: str,
    n: int,
    tokens: int,
    *flags: str,
    slots: int = 8000,
    scale: float = 1.0,
    during: Callable[[LoadRun], None] | None = None,
) -> Cell:
    """One load; the cell holds the window, the raw gaps (ns by request id), the truth and what the client says of itself."""
    with folder() as path:
        server = Truth(path, *flags)
        plan = draw(path / "plan.jsonl", arrivals, [Prompt("p", "hello")], [n], max_tokens=tokens)
        target = Target(server.url, "chat", "m", timeout_s=60, slots=slots, scale_s=scale)
        with LoadRun.start(plan, target, path / "out", cpu=CLIENT_CPU) as load:
            if during:
                during(load)
            window = load.wait_look(1)
            ended, t0 = load.stop(), load.t0
        gaps = COLUMNS.index("gaps")
        rows = {row[0]: unpack_gaps(row[gaps]) for row in Tail(ended.samples).rows()}
        figures = ended.client["figures"]
        return {
            "window": window, "gaps": rows, "truth": server.log(), "t0": t0, "client": ended.client, "ended": ended,
            "rid": f"{plan.digest[:8]}-",
            "cpu_us_per_token": 1e6 * figures["cpu"] * figures["seconds"] / max(int(window.n.sum()), 1),
        }  # fmt: skip


def streams(level: int, seconds: float = 6.0) -> Cell:
    """A steady number of streams: what the client says of gaps and first tokens, and what was."""
    life = TTFT_MS / 1e3 + TOKENS * ITL_MS / 1e3
    rate = level / life
    run = ours(
        f"constant {rate:.3f}/s", int(rate * (life + seconds)), TOKENS, "--ttft", str(TTFT_MS), "--itl", str(ITL_MS), scale=0.1
    )
    window, truth = run["window"], run["truth"]
    steady = [i for i in window.i if window.due[i] > life]  # all streams are there
    said = np.concatenate([run["gaps"][i] for i in steady]) / 1e3
    true = np.concatenate([np.diff(truth[f"{run['rid']}{i}"][1]) for i in steady]) / 1e6
    first = np.array([truth[f"{run['rid']}{i}"][1][0] for i in steady]) / 1e6
    came = np.array([truth[f"{run['rid']}{i}"][0] for i in steady]) / 1e6
    ttft = 1e3 * (window.ft[steady] - window.sent[steady]) - (first - came)
    due = 1e3 * (window.ft[steady] + run["t0"]) - first + 1e3 * (window.took[steady] - window.due[steady])
    return {
        "level": level, "p99_gap_ms": float(np.percentile(said, 99)), "p99_gap_true_ms": float(np.percentile(true, 99)),
        "ratio": float(np.percentile(said, 99) / np.percentile(true, 99)), "tokens_lost": int(true.size - said.size),
        "coalesced": int(window.coal.sum()), "ttft_error_ms": [float(np.percentile(np.abs(ttft), q)) for q in (50, 99)],
        "ttft_error_from_due_ms": [float(np.percentile(np.abs(due), q)) for q in (50, 99)],
        "cpu_us_per_token": run["cpu_us_per_token"], "sound": run["client"]["sound"], "client": run["client"]["figures"],
    }  # fmt: skip


def disturbed(row: Cell) -> str:
    """Why a run tells nothing: what the machine did, never what the client says of itself. Empty when it tells."""
    if row["p99_gap_true_ms"] > STARVED_MS:
        return f"the server was starved (p99 gap {row['p99_gap_true_ms']:.0f} ms)"
    return f"the host stole {row['client']['steal']:.0%} of the client's CPU" if row["client"]["steal"] >= STOLEN else ""


def within(row: Cell) -> bool:
    """Whether all was measured, within 5 %, by a client that does not refuse to say so."""
    return bool(row["sound"] and abs(row["ratio"] - 1) <= 0.05 and row["tokens_lost"] == 0)


def freeze() -> Cell:
    """100 requests a second, 5 ms each, one freeze of 2 s: p99 from the intended start over the truth."""
    run = ours("constant 100/s", 1200, 1, "--ttft", "5", "--freeze", "5:2")
    window = run["window"]
    true = [run["truth"][f"{run['rid']}{i}"][1][-1] / 1e9 - run["t0"] - window.due[i] for i in window.i]
    said = {q: percentile(window.latency("e2e"), q / 100) for q in (50, 90, 95, 99)}
    was = {q: percentile(true, q / 100) for q in (50, 90, 95, 99)}
    return {
        "said_ms": {q: 1e3 * value for q, value in said.items()}, "true_ms": {q: 1e3 * value for q, value in was.items()},
        "ratio": said[99] / was[99], "planned": 1200, "arrived": len(run["truth"]), "rows": run["ended"].rows,
        "sound": run["client"]["sound"], "silence_s": window.longest_silence()[0],
    }  # fmt: skip


def lost() -> Cell:
    """Planned arrivals that neither arrived nor have a sample that says why, under bursts beyond the slots."""
    run = ours("bursts 400 every 500ms", 4000, 4, "--ttft", "300", "--itl", "5", slots=300)
    window = run["window"]
    arrived = {int(rid.rpartition("-")[2]) for rid in run["truth"]}
    said = {int(i) for i, failed in zip(window.i, window.is_error(), strict=True) if failed}
    return {"planned": 4000, "arrived": len(arrived), "said": len(said), "unsaid": 4000 - len(arrived | said)}


def starved(quota: float) -> Cell:
    """The client under a CPU quota (cgroup), 300 streams; 1.0 is none."""
    with cgroup(quota) as join:
        life = TTFT_MS / 1e3 + TOKENS * ITL_MS / 1e3
        rate = 300 / life
        run = ours(f"constant {rate:.1f}/s", int(rate * 8), TOKENS, during=lambda load: join(load.pids[0]))
    return {
        "quota": quota,
        "sound": run["client"]["sound"],
        "cause": run["client"]["cause"],
        "client": run["client"]["figures"],
    }


def overloaded() -> Cell:
    """The client without a quota, at three times the requests a second that it can send."""
    run = ours(f"constant {OVERLOAD}/s", 3 * OVERLOAD, 1, "--ttft", "5")
    return {"quota": None, **{key: run["client"][key] for key in ("sound", "cause")}, "client": run["client"]["figures"]}


def frozen() -> Cell:
    """20 s of freeze at three times the target's rate, judged as a run judges: by a scenario's default limit of silence,
    which is required, beside a p95 of 1 s; one FAIL is enough, and the client is sound. The percentile alone could not decide:
    a freeze is one event, however many requests it holds (DESIGN 5)."""
    run = ours("constant 300/s", 300 * 30, 1, "--ttft", "5", "--freeze", "5:20")
    window = run["window"]
    flags, unproven = window.bad("ttft", 1.0), window.unproven("ttft", 1.0)
    gate = judge_rated(flags, window.latency("ttft"), 0.05, last_look=True, unproven=unproven)
    silence = window.longest_silence()[0]
    return {"sound": run["client"]["sound"], "cause": run["client"]["cause"], "gate": str(gate.outcome), "silence_s": silence,
            "fail": run["client"]["sound"] and (silence > Stall().max or gate.outcome is Outcome.FAIL)}  # fmt: skip


@contextmanager
def cgroup(share: float) -> Iterator[Callable[[int], None]]:
    """A CPU quota by cgroup v1 or v2; joins a process to it."""
    root = Path("/sys/fs/cgroup/cpu")
    group = (root if root.is_dir() else Path("/sys/fs/cgroup")) / f"hotfire-bench-{os.getpid()}"
    if share >= 1:
        yield lambda pid: None
        return
    group.mkdir()
    if root.is_dir():
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text(str(int(100_000 * share)))
    else:
        (group / "cpu.max").write_text(f"{int(100_000 * share)} 100000")
    try:
        yield lambda pid: (group / "cgroup.procs").write_text(str(pid)) and None
    finally:
        group.rmdir()


def million() -> Cell:
    """A million rows written by one process, read and judged by another: their memory and time."""
    out: Cell = {}
    with folder() as path:
        for part in ("record", "judge"):
            command = [sys.executable, __file__, "--part", part, str(path / "million.gz")]
            out |= json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return out


def part(name: str, path: Path) -> None:
    began = time.process_time()
    if name == "record":
        writer, gaps = Writer(path), pack_gaps([20_000 + i for i in range(15)])
        for i in range(1_000_000):
            due, first = 1000 * i, 1000 * i + 200_000 + i * 7919 % 100_000
            error = "" if i % 1000 else "reset_before_first"
            writer.add((i, 0, due, due + 40, due + 90, None, first - 9, first - 9, first, first + 300_000, first + 300_100, 16,
                        16, 200, error, "length", "pod-1", f"abcdef12-{i}", 1, 0, 22000, 22000, gaps, ""))  # fmt: skip
            if i % 1000 == 0:
                writer.flush()
        writer.close()
    else:
        found: Samples = read(path)  # as a run and `hotfire judge` judge
        slo = Slo.model_validate({"metric": "ttft", "p95": "< 350ms"})
        load = Load.model_validate({"arrivals": "constant 1000/s"})
        gate = objective.describe(slo, load, requests=len(found), until=1001.0, required_gates=1, windows=3)
        objective.judge(found, gate, look=1, last_look=True)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    megabytes = int(peak[1]) / 1024 if peak else float("nan")  # ru_maxrss holds what the parent had at the fork
    print(json.dumps({f"{name}_mb": round(megabytes), f"{name}_s": round(time.process_time() - began, 2)}))


def peer(client: str, level: int) -> Cell:
    """The same streams by another client."""
    with folder() as path:
        paced = client.endswith("paced")
        flags = ("--ttft", "5", "--freeze", "5:2") if paced else ("--ttft", str(TTFT_MS), "--itl", str(ITL_MS))
        server = Truth(path, *flags)
        command = [sys.executable, str(HERE / "peers.py"), client, "--url", server.url, "--streams", str(level),
                   "--tokens", "1" if paced else str(TOKENS), "--seconds", "12" if paced else "7"]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, timeout=180)
        *notes, total = (json.loads(line) for line in done.stdout.splitlines())
        truth = server.log()
    notes = [note for note in notes if note["rid"] in truth and note["first"]]
    if not notes:
        return {}
    if paced:
        said = percentile([(note["end"] - note["sent"]) / 1e9 for note in notes], 0.99)
        return {"p99_said_ms": 1e3 * said, "sent": len(notes), "planned": 1200}
    ttft = [(n["first"] - n["sent"]) / 1e6 - (truth[n["rid"]][1][0] - truth[n["rid"]][0]) / 1e6 for n in notes]
    said = np.concatenate([n["gaps"] for n in notes]) / 1e6
    true = np.concatenate([np.diff(truth[n["rid"]][1]) for n in notes]) / 1e6
    return {
        "level": level, "ratio": float(np.percentile(said, 99) / np.percentile(true, 99)),
        "ttft_error_ms": [float(np.percentile(np.abs(ttft), q)) for q in (50, 99)],
        "cpu_us_per_token": 1e6 * total["cpu_s"] / max(total["tokens"], 1),
    }  # fmt: skip


def quoted(tool: Tool, level: int) -> Cell:
    """What was measured of a tool on another day."""
    said, true = tool.p99_gap_ms
    return {"level": level, "quoted": True, "version": tool.version, "ratio": said / true if level == 300 else None,
            "ttft_error_ms": tool.ttft_error_ms[level],
            "note": f"{tool.version}, quoted of {QUOTED}, not measured here" + f"; {tool.note}" * bool(tool.note)}  # fmt: skip


def ready(tool: Tool) -> bool:
    """Whether a tool can be run here; says why not."""
    try:
        return tool.command is not None and installed(tool).is_dir()
    except ToolError as error:
        print(f"{tool.name} {tool.version}: not installed: {error}", flush=True)
        return False


def by_tool(tool: Tool, level: int) -> Cell:
    """The same streams by a tool made for them: its reported distribution less the server's."""
    with folder() as path:
        server = Truth(path, "--ttft", str(TTFT_MS), "--itl", str(ITL_MS))
        try:
            said = run(tool, server.url, level, path, CLIENT_CPU)
        finally:
            truth = server.log()
    first = np.array([sends[0] - came for came, sends in truth.values() if sends]) / 1e6
    gap = float(np.percentile(np.concatenate([np.diff(sends) for _, sends in truth.values()]), 99)) / 1e6
    return {
        "level": level, "quoted": False, "version": tool.version, "ratio": said.gap / gap, "p99_gap_true_ms": gap,
        "ttft_error_ms": [said.ttft[0] - float(np.percentile(first, 50)), said.ttft[1] - float(np.percentile(first, 99))],
        "note": f"{tool.version}, {len(truth)} requests, server {gap:.1f} ms" + f"; {tool.note}" * bool(tool.note),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one level, one run, no peers")
    parser.add_argument("--only", nargs="*", default=[], help="streams freeze lost starved frozen million peers")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part(args.part[0], Path(args.part[1]))
        return
    OUT.mkdir(parents=True, exist_ok=True)
    kept = OUT / "load.json"
    before = json.loads(kept.read_text()) if kept.exists() and args.only else {"figures": {}, "cells": {}}
    figures, cells = before["figures"], before["cells"]
    wanted = args.only or (["streams", "freeze", "lost"] if args.quick else
                           ["streams", "freeze", "lost", "starved", "frozen", "million", "peers"])  # fmt: skip
    cells["load_before"], runs = os.getloadavg()[0], 1 if args.quick else args.runs
    for name in wanted:
        began = time.monotonic()
        found, numbers = SECTIONS[name](runs)
        cells[name], figures = found, figures | numbers
        kept.write_text(json.dumps({"figures": figures, "cells": cells}, indent=1))
        print(
            f"\n{name} ({time.monotonic() - began:.0f} s)", *(f"  {key} = {value}" for key, value in numbers.items()), sep="\n"
        )
    print(json.dumps(figures))


def section_streams(runs: int) -> tuple[list[Cell], Cell]:
    rows, carried, below = list[Cell](), 0, 0
    discarded: list[Cell] = []
    print("streams  p99 gap said / true ms   ratio   TTFT error p50 / p99 ms   from due p99   us CPU a token   sound")
    for level in (300, 600, 1200) if runs > 1 else (300,):
        at: list[Cell] = []
        while len(at) < runs:
            row = streams(level)
            if (why := disturbed(row)) and len(discarded) < 3 * runs:
                discarded.append(row)
                print(f"{level:7d}  discarded: {why}", flush=True)
                continue
            at.append(row)
            print(f"{level:7d}  {row['p99_gap_ms']:8.2f} / {row['p99_gap_true_ms']:8.2f}   {row['ratio']:.4f}  "
                  f"{row['ttft_error_ms'][0]:10.3f} / {row['ttft_error_ms'][1]:.3f}  {row['ttft_error_from_due_ms'][1]:14.3f}"
                  f"   {row['cpu_us_per_token']:12.1f}     {row['sound']}", flush=True)  # fmt: skip
        rows += at
        if all(map(within, at)):
            carried = level if carried == below else carried
        below = level
    print(f"{len(discarded)} runs discarded, of {len(rows) + len(discarded)}: the machine took the time")
    median = lambda level, pick: float(np.median([pick(row) for row in rows if row["level"] == level]))  # noqa: E731
    top = max(row["level"] for row in rows)
    return rows + [row | {"discarded": True} for row in discarded], {
        "streams_runs_discarded": len(discarded),
        "streams_within_5pct": carried,
        "cpu_us_per_token": round(median(top, lambda row: row["cpu_us_per_token"]), 2),
        "ttft_error_p50_ms_300": round(median(300, lambda row: row["ttft_error_ms"][0]), 4),
        "ttft_error_p99_ms_300": round(median(300, lambda row: row["ttft_error_ms"][1]), 4),
        "ttft_error_from_due_p99_ms_300": round(median(300, lambda row: row["ttft_error_from_due_ms"][1]), 4),
    }


def section_freeze(runs: int) -> tuple[list[Cell], Cell]:
    rows = [freeze() for _ in range(runs)]
    return rows, {"freeze_p99_ratio": round(float(np.median([row["ratio"] for row in rows])), 4)}


def section_lost(runs: int) -> tuple[Cell, Cell]:
    row = lost()
    return row, {"lost_unsaid": row["unsaid"]}


def section_starved(runs: int) -> tuple[list[Cell], Cell]:
    rows = [starved(quota) for quota in (0.05, 1.0) for _ in range(4 * runs)] + [overloaded() for _ in range(runs)]
    return rows, refused(rows)


def refused(rows: list[Cell]) -> Cell:
    """How many runs the client called INVALID, and of how many; a sound client's are those without steal."""
    kinds = {
        "starved": [row for row in rows if row["quota"] and row["quota"] < 1],
        "overloaded": [row for row in rows if row["quota"] is None],
        "sound": [row for row in rows if row["quota"] == 1 and row["client"]["steal"] < STOLEN],
    }
    figures = {f"invalid_when_{kind}": sum(not row["sound"] for row in of) for kind, of in kinds.items()}
    return figures | {f"invalid_when_{kind}_of": len(of) for kind, of in kinds.items()}


def section_frozen(runs: int) -> tuple[list[Cell], Cell]:
    rows = [frozen() for _ in range(2 * runs)]
    by_gate = sum(row["gate"] == Outcome.FAIL for row in rows)
    return rows, {
        "freeze_judged_fail": sum(row["fail"] for row in rows),
        "freeze_judged_of": len(rows),
        "freeze_judged_fail_by_the_percentile_too": by_gate,
    }


def section_million(runs: int) -> tuple[Cell, Cell]:
    row = million()
    return row, {"record_mb_1m": row["record_mb"], "judge_mb_1m": row["judge_mb"], "judge_s_1m": row["judge_s"]}


def section_peers(runs: int) -> tuple[Cell, Cell]:
    out: Cell = {}
    print("on one machine the kernel's stamp bounds the reading side only: what a network does is not in these figures")
    print("client          streams  p99 gap ratio   TTFT error p50 / p99 ms   us CPU a token")
    for client in ("hotfire", "httpx", "aiohttp", "fast-http"):
        for level in (20, 100, 300):
            row = out[f"{client}-{level}"] = streams(level) if client == "hotfire" else peer(client, level)
            if not row:
                print(f"{client:15s} {level:7d}  no answer was read to its end")
                continue
            print(f"{client:15s} {level:7d}  {row['ratio']:13.3f}  {row['ttft_error_ms'][0]:10.2f} "
                  f"/ {row['ttft_error_ms'][1]:8.2f}  {row['cpu_us_per_token']:14.1f}", flush=True)  # fmt: skip
    for tool in TOOLS:
        measured = os.environ.get("PEERS") == "1" and ready(tool)
        for level in tool.ttft_error_ms:
            try:
                row = out[f"{tool.name}-{level}"] = by_tool(tool, level) if measured else quoted(tool, level)
            except ToolError as error:
                print(f"{tool.name:15s} {level:7d}  not measured: {error}", flush=True)
                continue
            ratio, (p50, p99) = f"{row['ratio']:.3f}" if row["ratio"] else "-", row["ttft_error_ms"]
            print(f"{tool.name:15s} {level:7d}  {ratio:>13s}  {p50:+10.2f} / {p99:+8.2f}  {'-':>14s}   {row['note']}",
                  flush=True)  # fmt: skip
    out["paced"] = peer("fast-http-paced", 10)
    print(f"locust's constant_throughput under the freeze: p99 {out['paced']['p99_said_ms']:.0f} ms, "
          f"{out['paced']['sent']} of {out['paced']['planned']} sent")  # fmt: skip
    return out, {"peer_freeze_p99_ms": round(out["paced"]["p99_said_ms"], 1)}


SECTIONS: dict[str, Callable[[int], tuple[Any, Cell]]] = {
    name.removeprefix("section_"): function for name, function in list(globals().items()) if name.startswith("section_")
}


if __name__ == "__main__":
    main()
