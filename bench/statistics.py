"""How often do the gates' rules decide wrongly, and how often at all? Simulated worlds, the product's own functions.

    python bench/statistics.py [--runs 250] [--fresh]       about 15 minutes on one core; resumable, cells are kept

Five looks at 2,500 to 10,000 requests, 1 % each, on p95. The limit is a multiple of the true p95: at 1.0 every PASS and
every FAIL is wrong; at 1.25, 1.5 and 2 PASS is right (power); at 0.67 FAIL is. The true p95 is the pooled one of all
runs of a cell: its error is 1 / sqrt(runs) of one run's, below what the Monte-Carlo error of a cell shows anyway.
power_1_5x_u07_pct is as the facts have it: one look at 10,000, 5 %, mean over their eight worlds; wrong_pass_worst_pct is
over all fifteen and five looks. Writes reports/bench/statistics.json {"figures": {...}, "cells": [...]}; the table goes to
the standard output.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
import worlds

from hotfire.gates import flow, guard, users
from hotfire.gates import statistics as gates
from hotfire.plugin.users import EVERY_S

P0, FIRST, SEED = 0.05, 2_500, 4_711
UTILISATIONS = (0.5, 0.7, 0.8, 0.9)
SOAK, SOAKED = 200_000, ("mm4", "mg4cv2", "drift", "cache", "twopod", "bursty", "pauses")
INTERVALS = (5, 20, 100)  # requests from one reading of the counters to the next
MULTIPLES = (0.67, 1.0, 1.25, 1.5, 2.0)
OUT = Path(__file__).parent.parent / "reports" / "bench"


def levels_tau(latency: worlds.Floats) -> float:
    """The part of `gates.dependence` that does not rest on the limit: it is the same for every multiple."""
    return gates.dependence(np.zeros(len(latency)), latency, P0)


def looks(latency: worlds.Floats, limits: dict[float, float]) -> dict[str, dict[float, str]]:
    """The decisions of one run: {rule: {multiple: PASS, FAIL or none}}; `@` the requests used, per multiple."""
    sizes, alpha = gates.look_sizes(FIRST), gates.alphas(0.95)
    out: dict[str, dict[float, str]] = {"five": {}, "windows": {}, "first": {}, "last": {}, "used": {}}
    for n in sizes:
        once = {sizes[0]: "first", sizes[-1]: "last"}.get(n)
        if not once and len(out["windows"]) == len(limits):
            continue
        window = latency[:n]
        base = levels_tau(window)
        for multiple, limit in limits.items():
            if not once and multiple in out["windows"]:
                continue
            bad = window > limit
            tau = max(base, float(gates.autocorrelation_time(bad)[0]))
            k = int(bad.sum())
            found = gates.decide(n, k, k, P0, tau, alpha)
            if found and multiple not in out["windows"] and (found == "FAIL" or steady(bad)):
                out["windows"][multiple] = found.value
            if found and multiple not in out["five"]:
                out["five"][multiple], out["used"][multiple] = found.value, str(n)
            if once:
                out[once][multiple] = str(gates.decide(n, k, k, P0, tau, (0.05, 0.05)) or "none")
    return out


def thirds(latency: worlds.Floats, limit: float) -> bool:
    """Whether any third of the window FAILs at any of the five looks."""
    windows = (latency[:n] for n in gates.look_sizes(FIRST))
    return any(gates.failing_third(w > limit, w, P0, gates.alphas(0.95)[1]) is not None for w in windows)


def steady(bad: NDArray[np.bool_]) -> bool:
    """What certify asks beside the bound: each of three windows within the allowed share."""
    return not gates.drifting(gates.windowed(bad, 3), P0)


def drifts(latency: worlds.Floats, limit: float) -> tuple[bool, bool, bool]:
    """A candidate twice as slow from two thirds on, judged at the last look: (PASS, PASS in windows too, FAIL)."""
    slower = latency * np.where(np.arange(len(latency)) < 2 * len(latency) // 3, 1, 2)
    bad, alpha = slower > limit, gates.alphas(0.95)
    k = int(bad.sum())
    found = gates.decide(len(bad), k, k, P0, gates.dependence(bad, slower, P0), alpha)
    failed = found == "FAIL" or gates.failing_third(bad, slower, P0, alpha[1]) is not None
    return found == "PASS", found == "PASS" and steady(bad), failed


def cell(name: str, use: float, runs: int) -> list[dict[str, object]]:
    rows = []
    for world, latency in worlds.simulate(name, use, runs, gates.look_sizes(FIRST)[-1], SEED).items():
        true = float(np.quantile(latency, 1 - P0))
        limits = {m: m * true for m in MULTIPLES}
        count: dict[str, int] = defaultdict(int)
        used: dict[float, float] = defaultdict(float)
        after: dict[str, int] = defaultdict(int)
        for run in latency:
            found = looks(run, limits)
            for rule in ("five", "windows", "first", "last"):
                for m in MULTIPLES:
                    count[f"{rule} {m} {found[rule].get(m, 'none')}"] += 1
            for m in MULTIPLES:
                used[m] += float(found["used"].get(m, len(run))) / FIRST
            for key, happened in zip(("PASS", "windows PASS", "FAIL"), drifts(run, limits[1.5]), strict=True):
                count[f"drift {key}"] += happened
            dead = np.where(np.arange(len(run)) < FIRST, run, np.inf)  # nothing is answered from the first look on
            for key, seen, limit in (("1.0", run, true), ("0.5", run, limits[1.0] / 2), ("dead", dead, limits[1.5])):
                at = burnt(seen, limit)
                count[f"guard {key}"] += at > 0
                after[key] = max(after[key], at)
            count["thirds 1.0 FAIL"] += found["five"].get(1.0) == "FAIL" or thirds(run, true)
        rows.append({"world": world, "utilisation": use, "runs": runs, "seed": SEED, "counts": dict(count),
                     "guard_at_most": dict(after), "used": {str(m): used[m] / runs for m in MULTIPLES}})  # fmt: skip
    return rows


CHECKPOINTS = sorted({guard.checkpoint(n) for n in range(gates.LEAST_FAIL, gates.look_sizes(FIRST)[-1] + 1)})


def burnt(latency: worlds.Floats, limit: float) -> int:
    """The count at which the burn guard ends the run; 0 for never."""
    bad, alpha = latency > limit, gates.alphas(0.95)[1]
    return next((n for n in CHECKPOINTS if guard.burns(bad[:n], latency[:n], P0, alpha)), 0)


def counted(
    runs: int, size: int, utilisations: tuple[float, ...] = UTILISATIONS
) -> dict[float, tuple[list[float], list[float], int]]:
    """The burn guard on counters: utilisation -> (false ends at the limit, deaths found; % of runs by world; the most requests
    from a death to its end). Requests are counted when they end, in intervals of `size` of them on average."""
    sizes, alpha = gates.look_sizes(FIRST), gates.alphas(0.95)[1]
    found: dict[float, tuple[list[float], list[float], int]] = {}
    for use in utilisations:
        wrong, dead, most = [], [], 0
        for name in worlds.SERVED:
            due, end = worlds.served(name, use, runs, sizes[-1], SEED)
            limit = float(np.quantile(end - due, 1 - P0))
            ends = [ended(a, b, limit, size, alpha) for a, b in zip(due, end, strict=True)]
            deaths = [ended(a, b, limit, size, alpha, dies=FIRST) for a, b in zip(due, end, strict=True)]
            wrong.append(100 * float(np.mean([n > 0 for n in ends])))
            dead.append(100 * float(np.mean([n > 0 for n in deaths])))
            most = max(most, *(n - FIRST for n in deaths))
        found[use] = (wrong, dead, most)
    return found


def ended(due: worlds.Floats, end: worlds.Floats, limit: float, size: int, alpha: float, dies: int | None = None) -> int:
    """Requests counted when the guard on counters burns; 0 for never. dies: from that one on, every request is bad."""
    bad, order = end - due > limit, np.argsort(end, kind="stable")
    bad[dies if dies is not None else len(bad) :] = True
    which = ((end[order] - end[order[0]]) / (size * (due[-1] - due[0]) / len(due))).astype(int)
    burn = users.Burn(P0, alpha, "e2e")
    for n, k in zip(np.bincount(which), np.bincount(which, weights=bad[order]), strict=True):
        if burn.add(int(n), int(k), EVERY_S):
            return burn.requests
    return 0


def soaks(runs: int) -> tuple[int, int, int]:
    """The guard beyond its MOST, on runs of SOAK requests at the limit itself: (runs, ended ones, the most requests from a
    death to its end)."""
    alpha, asked, wrong, most = gates.alphas(0.95)[1], 0, 0, 0

    def ends(bad: NDArray[np.bool_], seconds: worlds.Floats, since: int) -> int:
        counts = range(since, len(bad) + 1, guard.STEP)
        return next((n for n in counts if guard.burns(bad[n - guard.RECENT : n], seconds[n - guard.RECENT : n], P0, alpha)), 0)

    for use in (0.8, 0.9):
        for name in SOAKED:
            latency = worlds.simulate(name, use, runs, SOAK, SEED)[name]
            limit = float(np.quantile(latency, 1 - P0))
            for run in latency:
                asked, wrong = asked + 1, wrong + (ends(run > limit, run, guard.RECENT) > 0)
            dead = np.concatenate([latency[0, : guard.RECENT], np.full(guard.RECENT, np.inf)])
            most = max(most, ends(dead > limit, dead, guard.RECENT) - guard.RECENT)
    return asked, wrong, most


def capacity(
    runs: int, utilisations: tuple[float, ...] = (0.7, 0.9, 1.05, 1.2)
) -> dict[float, tuple[list[float], list[float]]]:
    """Utilisation -> (flagged, confirmed) at any of the five looks, % of runs by world; a tenth is warm-up."""
    sizes, warm = gates.look_sizes(FIRST), FIRST // 10
    found: dict[float, tuple[list[float], list[float]]] = {}
    for use in utilisations:
        seen = []
        for name in worlds.SERVED:
            due, end = worlds.served(name, use, runs, warm + sizes[-1], SEED)
            met = [flow.in_flight(a, b)[warm:] for a, b in zip(due, end, strict=True)]
            hits = [(any(flow.saturated(x[:n]) for n in sizes), any(flow.confirmed(x[:n]) for n in sizes)) for x in met]
            seen.append(100 * np.mean(hits, axis=0))
        found[use] = ([float(row[0]) for row in seen], [float(row[1]) for row in seen])
    return found


def share(rows: list[dict], key: str) -> list[float]:  # type: ignore[type-arg]
    return [100 * row["counts"].get(key, 0) / row["runs"] for row in rows]


def report(rows: list[dict]) -> dict[str, float]:  # type: ignore[type-arg]
    """Prints the table and returns the figures."""
    print("p95; five looks at 2,500..10,000, 1 % each | one look, 5 %: n = 2,500 and 10,000 (mean / worst world, %)")
    print("util  wrong PASS   wrong FAIL  (thirds)   PASS 1.25 1.5 2.0  FAIL 0.67  used 1.5x | wrong PASS    PASS 1.5x")
    for use in UTILISATIONS:
        at = [row for row in rows if row["utilisation"] == use]
        if not at:
            continue

        def both(key: str, at: list = at) -> str:  # type: ignore[type-arg]
            values = share(at, key)
            return f"{np.mean(values):4.1f} /{max(values):5.1f}"

        def mean(key: str, at: list = at) -> str:  # type: ignore[type-arg]
            return f"{np.mean(share(at, key)):4.0f}"

        print(f"{use}  {both('five 1.0 PASS')}  {both('five 1.0 FAIL')}  {both('thirds 1.0 FAIL')}     "
              f"{mean('five 1.25 PASS')}{mean('five 1.5 PASS')}{mean('five 2.0 PASS')}       {mean('five 0.67 FAIL')}"
              f"      {np.mean([row['used']['1.5'] for row in at]):.1f} n | {both('first 1.0 PASS')} {both('last 1.0 PASS')}"
              f"  {mean('first 1.5 PASS')} {mean('last 1.5 PASS')}")  # fmt: skip
    print("\nworst cells, wrong PASS in five looks:")
    for row in sorted(rows, key=lambda row: -row["counts"].get("five 1.0 PASS", 0) / row["runs"])[:6]:
        p = row["counts"].get("five 1.0 PASS", 0) / row["runs"]
        print(f"  {row['world']:8s} {row['utilisation']}  {100 * p:.1f} +- {100 * (p * (1 - p) / row['runs']) ** 0.5:.1f} %")
    at07 = [row for row in rows if row["utilisation"] == 0.7]
    return {
        "wrong_pass_worst_pct": round(max(share(rows, "five 1.0 PASS")), 2),
        "wrong_pass_mean_pct": round(float(np.mean(share(rows, "five 1.0 PASS"))), 2),
        "wrong_fail_worst_pct": round(max(share(rows, "five 1.0 FAIL")), 2),
        "wrong_fail_with_thirds_worst_pct": round(max(share(rows, "thirds 1.0 FAIL")), 2),
        "one_look_wrong_pass_worst_pct": round(max(share(rows, "last 1.0 PASS")), 2),
        "power_1_5x_u05_pct": round(float(np.mean(share([r for r in rows if r["utilisation"] == 0.5], "five 1.5 PASS"))), 1),
        "power_1_5x_u07_pct": round(
            float(np.mean(share([r for r in at07 if r["world"] in worlds.WORLDS], "last 1.5 PASS"))), 1
        ),
        "power_1_5x_u07_all_worlds_pct": round(float(np.mean(share(at07, "last 1.5 PASS"))), 1),
        "power_1_5x_u07_five_looks_pct": round(float(np.mean(share(at07, "five 1.5 PASS"))), 1),
        "power_1_5x_u07_windows_pct": round(float(np.mean(share(at07, "windows 1.5 PASS"))), 1),
        "drift_passed_worst_pct": round(max(share(rows, "drift PASS")), 2),
        "drift_passed_with_windows_worst_pct": round(max(share(rows, "drift windows PASS")), 2),
        "drift_failed_u05_pct": round(float(np.mean(share([r for r in rows if r["utilisation"] == 0.5], "drift FAIL"))), 1),
        "guard_false_worst_pct": round(max(share(rows, "guard 1.0")), 2),
        "guard_false_mean_pct": round(float(np.mean(share(rows, "guard 1.0"))), 3),
        "guard_found_0_5x_u05_pct": round(float(np.mean(share([r for r in rows if r["utilisation"] == 0.5], "guard 0.5"))), 1),
        "guard_found_dead_pct": round(min(share(rows, "guard dead")), 1),
        "guard_found_dead_after": max(row["guard_at_most"]["dead"] for row in rows) - FIRST,
        "power_fail_0_67x_u07_pct": round(float(np.mean(share(at07, "five 0.67 FAIL"))), 1),
        "used_1_5x_u07": round(float(np.mean([row["used"]["1.5"] for row in at07])), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=250)
    parser.add_argument("--fresh", action="store_true", help="forget the cells kept from before")
    asked = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    kept, began = OUT / "statistics-cells.jsonl", time.monotonic()
    if asked.fresh:
        kept.unlink(missing_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    rows = [row for row in rows if row["runs"] == asked.runs and row["seed"] == SEED]
    for use in UTILISATIONS:
        for name in worlds.WORLDS + worlds.HELD_OUT + worlds.OWN:
            if name == "llmttft" or any(row["world"] == name and row["utilisation"] == use for row in rows):
                continue
            fresh = cell(name, use, asked.runs)
            rows += fresh
            with kept.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in fresh)
            print(f"{time.monotonic() - began:5.0f} s  {name} {use}", file=sys.stderr)
    figures = report(rows)
    print(
        "burn guard on counters, intervals of so many requests: util, false ends (mean / worst world, %), deaths found, within"
    )
    for size in INTERVALS:
        by_use = counted(asked.runs // 2, size)
        for use, (wrong, dead, most) in by_use.items():
            print(f"  {size:3d}  {use}  {np.mean(wrong):4.2f} /{max(wrong):5.2f}   {min(dead):5.1f}   {most} requests")
        figures |= {
            f"users_guard_false_worst_pct_{size}": round(max(max(wrong) for wrong, _, _ in by_use.values()), 2),
            f"users_guard_found_dead_pct_{size}": round(min(min(dead) for _, dead, _ in by_use.values()), 1),
            f"users_guard_found_dead_after_{size}": max(most for _, _, most in by_use.values()),
        }
    long, wrong, most = soaks(asked.runs // 20)
    print(
        f"guard on soaks of {SOAK:,} requests at the limit: {wrong} of {long} ended; a death is seen within {most:,} requests"
    )
    figures |= {"soak_guard_runs": long, "soak_guard_false": wrong, "soak_guard_found_dead_after": most}
    above = capacity(asked.runs // 2)
    print("saturation, any of five looks: util, flagged (mean / worst world, %), confirmed")
    for use, (flagged, sure) in above.items():
        print(
            f"  {use}  {np.mean(flagged):4.1f} /{max(flagged):5.1f}   {np.mean(sure):5.1f} / {min(sure):.1f} to {max(sure):.1f}"
        )
    figures |= {
        "saturation_confirmed_false_worst_pct": round(max(*above[0.7][1], *above[0.9][1]), 2),
        "saturation_confirmed_found_1_2_pct": round(float(np.mean(above[1.2][1])), 1),
        "saturation_confirmed_found_1_05_pct": round(float(np.mean(above[1.05][1])), 1),
    }
    (OUT / "statistics.json").write_text(json.dumps({"figures": figures, "runs": asked.runs, "cells": rows}, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
