"""SIGKILL hotfire at every named point and at random instants: does the namespace still end exactly old or exactly new?

    python bench/crash_matrix.py [--kills N] [--minutes M] [--side 4] [--only SECTION ...] [--fresh]     hours when whole

On an embedded stand of its own, or one that runs (--stand). Every cell is a line of
reports/bench/crash-matrix.jsonl and is not run again; --fresh begins anew. Writes reports/bench/crash-matrix.json
{"figures": {...}}, exit 1 when a figure that must be zero is not. The judge is bench/comparer.py, on what kubectl prints.
Sections: plain (runs left alone), named and random (kills), faults, closure (beside `kubectl rollout undo`), owner, proof.
A kill is followed by `hotfire abort` (--way abort), or by nothing at all (--way watchdog: every run is armed; one that died
before it had a watchdog changed nothing, and only its journal is closed by `hotfire abort`).
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_faults import FAULTS
from crash_judge import await_end, judge, pods_ready, times
from crash_rest import REST
from crash_world import Place, Predicate, Process, World, abort, survivors, watching

import hotfire
from hotfire.kube.client import Cluster
from hotfire.stand.embedded import lifecycle, machine
from hotfire.stand.embedded.plan import Stand
from hotfire.stand.images import push

OUT = Path(__file__).parents[1] / "reports" / "bench"
RUN_S, DEAD_S = 180.0, 10.0  # a run may take / after which no child may live
Cell = dict[str, Any]

POINTS: dict[str, tuple[str, Predicate]] = {  # point -> the run that passes it, what is seen from outside then
    "lease-taken": ("sound", lambda seen: seen.held()),
    "open": ("sound", lambda seen: seen.state == "OPEN"),
    "open-snapshot": ("sound", lambda seen: seen.state == "OPEN" and seen.journal["parts"] > 0),
    "armed": ("sound", lambda seen: seen.state == "ARMED"),
    "armed-way-in": ("sound", lambda seen: seen.state == "ARMED" and bool(seen.entries("delete-added"))),
    "applying": ("sound", lambda seen: seen.state == "APPLYING"),
    "applying-intent": ("sound", lambda seen: seen.state == "APPLYING" and bool(seen.entries("put-back"))),
    "applying-half": ("sound", lambda seen: seen.state == "APPLYING" and seen.batch() == "new"),
    "testing": ("sound", lambda seen: seen.state == "TESTING"),
    "fault-open": ("kill", lambda seen: bool(seen.entries("fault-begun")) and not seen.entries("fault-ended")),
    "fault-ended": ("kill", lambda seen: bool(seen.entries("fault-ended"))),
    "hogs-at-work": ("oom", lambda seen: bool(seen.entries("fault-begun")) and not seen.entries("fault-ended")),
    "confirmed": ("sound", lambda seen: seen.state == "CONFIRMED"),
    "confirmed-settled": ("sound", lambda seen: seen.state == "CONFIRMED" and bool(seen.journal["settled"])),
    "restoring": ("late", lambda seen: seen.state == "RESTORING"),
    "restoring-half": ("late", lambda seen: seen.state == "RESTORING" and seen.batch() == "old"),
    "rehearsing": ("rehearse", lambda seen: seen.state == "RESTORING"),
    "rehearsed": ("rehearse", lambda seen: seen.state == "RESTORED"),
    "applying-again": ("rehearse", lambda seen: seen.state == "APPLYING" and seen.journal["n"] > 0),
    "restored": ("late", lambda seen: seen.state == "RESTORED"),
    "restored-settled": ("late", lambda seen: seen.state == "RESTORED" and bool(seen.journal["settled"])),
}
PLAIN = {"sound": 2, "late": 3, "kill": 1, "oom": 1, "rehearse": 1}  # runs of each variant that are left alone
WEIGHTS = {"sound": 40, "late": 35, "kill": 15, "oom": 10}


# -- cells ------------------------------------------------------------------------------------------------------------


def plain(place: Place, cell: str, variant: str, way: str) -> Cell:
    """A run that is left alone: how long it takes, and whether its own word is right."""
    before = str(place.tombstone().get("run", ""))
    run = Process.start(place, cell, variant, armed=way == "watchdog")
    with pods_ready(place) as ready, watching(place) as until:
        written = until(lambda seen: bool(seen.journal.get("asked")) or seen.state == "RESTORING", lambda: run.alive, RUN_S)
        first_write = time.time() if written else 0.0
        code = run.wait(RUN_S)
    seconds = time.monotonic() - run.began
    found = judge(place, run, before, False, None)
    right = 20 if variant == "late" else 0
    found["wrong"] += [] if code == right else [f"exit {code}, {right} is right: {run.log.read_text()[-800:]}"]
    return {
        "killed": False,
        "variant": variant,
        "way": way,
        "exit": code,
        "seconds": round(seconds, 2),
        **found,
        **times(run, ready(), first_write),
    }


def killed(place: Place, cell: str, variant: str, way: str, point: str = "", at_s: float | None = None) -> Cell:
    """A run that is killed, what brings the namespace to an end after it, and what is there then."""
    before = str(place.tombstone().get("run", ""))
    with watching(place) as until:
        run = Process.start(place, cell, variant, armed=way == "watchdog")
        if at_s is None:
            hit = until(POINTS[point][1], lambda: run.alive, RUN_S)
        else:
            time.sleep(max(0.0, run.began + at_s - time.monotonic()))
            hit = True
        hit = hit and run.alive
        run.kill()
    if point and not hit:
        raise RuntimeError(f"the run ended and was not seen at {point}: {run.log.read_text()[-1000:]}")
    died = time.monotonic()
    stone = place.tombstone()
    found: Cell = {"killed": hit, "variant": variant, "point": point, "way": way, "at_s": round(died - run.began, 2),
                   "landed": stone.get("state", "") if stone.get("run") != before else "nothing"}  # fmt: skip
    alone = way == "watchdog" and hit
    if alone:
        found |= await_end(place, before)
    by_abort = (way == "abort" and hit) or (alone and not found["watched"])
    ended = abort(place, run.log.with_name("abort.txt")).returncode if by_abort else None
    time.sleep(max(0.0, died + DEAD_S - time.monotonic()))
    found |= {"exit": run.popen.returncode, "abort_exit": ended, "survivors": survivors(cell, place.name)}
    return found | judge(place, run, before, hit, ended) | {"seconds": round(time.monotonic() - run.began, 2)}


# -- the matrix -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One cell. alone: it disturbs the whole stand."""

    id: str
    section: str
    run: Callable[[Place, str], Cell]
    alone: bool = False


def revision() -> str:
    """The commit of the hotfire under test, `+` with changes that are in none."""
    git = ["git", "-C", str(Path(hotfire.__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return commit + "+" * bool(subprocess.run([*git, "diff", "HEAD", "--", "."], capture_output=True, check=False).stdout)


class Matrix:
    """The jobs, the file they append to, and the slots that run them."""

    def __init__(self, args: argparse.Namespace, world: World, out: Path) -> None:
        self.args, self.world, self.file = args, world, out.with_suffix(".jsonl")
        self.lock, self.until = threading.Lock(), time.monotonic() + 60 * args.minutes
        if args.fresh:
            self.file.unlink(missing_ok=True)
        self.of, self.stand = revision(), machine.owner()
        self.cells: dict[str, Cell] = {}
        self.lost: list[str] = []
        if self.file.exists():
            self.cells = {cell["id"]: cell for cell in map(json.loads, self.file.read_text().splitlines())}

    def length(self, variant: str) -> float:
        """Seconds of an undisturbed run."""
        plain = [
            cell for cell in self.cells.values() if cell["section"] == "plain" and cell.get("way", "abort") == self.args.way
        ]
        lengths = [cell["seconds"] for cell in plain if cell["variant"] == variant]
        return median(lengths) if lengths else 12.0

    def jobs(self) -> list[list[Job]]:
        """In phases: what is later needs what is before."""
        args = self.args
        plains = [Job(f"plain/{args.way}/{variant}/{n}", "plain",
                      lambda place, cell, variant=variant: plain(place, cell, variant, args.way))
                  for variant, count in PLAIN.items() for n in range(count)]  # fmt: skip

        def named(point: str, n: int) -> Job:
            variant = POINTS[point][0]
            return Job(
                f"named/{args.way}/{point}/{n}",
                "named",
                lambda place, cell: killed(place, cell, variant, args.way, point),
            )

        def at_random(n: int) -> Job:
            draw = random.Random(f"{args.seed}/{n}")
            variant, share = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0], draw.random()

            def cell_of(place: Place, cell: str) -> Cell:
                return killed(place, cell, variant, args.way, at_s=share * self.length(variant))

            return Job(f"random/{args.way}/{args.seed}/{n}", "random", cell_of)

        points = args.points or list(POINTS)
        kills = [named(point, n) for n in range(args.per_point) for point in points]
        rest = [Job(f"{section}/{name}", section, run) for section, cells in REST.items() for name, run in cells.items()]
        faults = [Job(f"faults/{name}", "faults", run, alone) for name, (run, alone) in FAULTS.items()]
        phases = [plains, rest, kills, [at_random(n) for n in range(args.random)], faults]
        return [[job for job in jobs if not args.only or job.section in args.only] for jobs in phases]

    def go(self) -> None:
        kills_left = self.args.kills
        for phase in self.jobs():
            todo = [job for job in phase if job.id not in self.cells]
            if phase and phase[0].section in ("named", "random"):
                todo = todo[:kills_left]
                kills_left -= len(todo)
            self._side_by_side([job for job in todo if not job.alone], self.args.side)
            self._side_by_side([job for job in todo if job.alone and self.args.alone], 1)

    def _side_by_side(self, jobs: list[Job], side: int) -> None:
        slots = [threading.Thread(target=self._slot, args=(jobs, n)) for n in range(min(side, len(jobs)))]
        for slot in slots:
            slot.start()
        for slot in slots:
            slot.join()

    def _slot(self, jobs: list[Job], number: int) -> None:
        place = Place(self.world, f"{self.args.prefix}-{number}")
        while True:
            if machine.owner() != self.stand:
                self.lost.append("whatever was left: the stand was taken away")
                return
            with self.lock:
                if not jobs or time.monotonic() > self.until:
                    break
                job = jobs.pop(0)
            self._one(job, place)
        place.remove()

    def _one(self, job: Job, place: Place) -> None:
        """A cell that the bench itself could not carry out is no evidence: said, kept out of the file, run again next time."""
        began = time.monotonic()
        try:
            place.prepare()
            cell = {"id": job.id, "section": job.section, "of": self.of, **job.run(place, job.id)}
        except Exception:  # noqa: BLE001 - one cell must not end the matrix
            print(f"{job.id:40} NOT CARRIED OUT\n{traceback.format_exc()}", flush=True)
            place.fresh = True
            self.lost.append(job.id)
            return
        bad = [line for part in ("mixed", "orphans", "wrong", "survivors", "bad") for line in cell.get(part, ())]
        folder = place.folder / job.id.replace("/", "_")
        place.fresh = bool(bad) or bool(cell.pop("spoilt", False))
        if bad:
            print(f"  see {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        with self.lock:
            self.cells[job.id] = cell
            with self.file.open("a") as file:
                file.write(json.dumps(cell) + "\n")
            what = " ".join(str(cell.get(part, "")) for part in ("landed", "end", "said"))
            print(f"{job.id:40} {what:30} {time.monotonic() - began:5.1f} s  {'; '.join(bad) or 'ok'}", flush=True)


# -- the figures ------------------------------------------------------------------------------------------------------


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def bound(n: int) -> float:
    """Of a share, one-sided, 95 %, when none was seen in n."""
    return round(1 - 0.05 ** (1 / n), 4)


def counted(key: str, bad: int, n: int) -> Cell:
    """The figure, of how many, and what a zero says of the share."""
    return {key: bad, f"{key}_n": n} | ({} if bad else {f"{key}_bound_95": bound(n)})


def figures(cells: Sequence[Cell]) -> Cell:
    """One figure a key; n and the bound beside every zero. A figure that nothing was measured for is absent."""
    kills = [cell for cell in cells if cell["section"] in ("named", "random") and cell["killed"]]
    judged = [cell for cell in cells if cell["section"] in ("plain", "named", "random")]
    found: Cell = {
        "kills": len(kills),
        "kills_at_named_points": sum(cell["section"] == "named" for cell in kills),
        "kills_at_random_instants": sum(cell["section"] == "random" for cell in kills),
        "points_with_3_kills": sum(sum(cell["point"] == point for cell in kills) >= 3 for point in POINTS),
        "points": len(POINTS),
    }
    alone = [cell for cell in kills if cell["way"] == "watchdog"]
    if alone:
        found |= {
            "kills_armed": len(alone),
            "kills_armed_restored_without_a_command": sum(cell["watched"] for cell in alone),
            "kills_before_there_was_a_watchdog": sum(not cell["watched"] for cell in alone),
            "watchdog_s_median": median([cell["watchdog_s"] for cell in alone if cell["watched"]] or [0.0]),
        }
    for key, part in (
        ("mixed_states", "mixed"),
        ("orphans", "orphans"),
        ("wrong_verdicts", "wrong"),
        ("survivors", "survivors"),
    ):
        over = kills if part == "survivors" else judged
        if over:
            found |= {
                key: sum(bool(cell.get(part)) for cell in over),
                f"{key}_n": len(over),
                f"{key}_bound_95": bound(len(over)),
            }
    faults = [cell for cell in cells if cell["section"] == "faults"]
    if faults:
        found["fault_cells_ok_share"] = round(sum(not cell["bad"] for cell in faults) / len(faults), 4)
        found |= counted("fault_cells_bad", sum(bool(cell["bad"]) for cell in faults), len(faults))
    woken = [cell["stale_writes"] for cell in faults if "stale_writes" in cell]
    if woken:
        found |= counted("stale_writes", sum(woken), len(woken))
    for key in ("breach_to_first_write_s", "restored_beyond_ready_s"):
        values = [cell[key] for cell in cells if key in cell]
        if values:
            found |= {key: max(values), f"{key}_median": round(median(values), 3), f"{key}_n": len(values)}
    for cell in cells:
        found |= cell.get("figures", {})
    owner = [value for key, value in found.items() if key.startswith("owner_conflicts_")]
    return found | ({"owner_conflicts": sum(owner)} if owner else {})


def violations(found: Cell) -> list[str]:
    zero = ("mixed_states", "orphans", "wrong_verdicts", "survivors", "stale_writes", "restoration_residual", "owner_conflicts")
    wrong = [f"{key} = {found[key]}, 0 is to reach" for key in zero if found.get(key)]
    whole = ("fault_cells_ok_share", "proof_mutants_caught_share")
    wrong += [f"{key} = {found[key]}, 1 is to reach" for key in whole if found.get(key, 1) != 1]
    limits = {"breach_to_first_write_s": 1, "restored_beyond_ready_s": 3}
    return wrong + [f"{key} = {found[key]}, {most} is to reach" for key, most in limits.items() if found.get(key, 0) > most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--kills", type=int, default=10_000, help="at most so many kills this time")
    parser.add_argument("--minutes", type=float, default=600, help="begin no cell after so many minutes")
    parser.add_argument("--side", type=int, default=4, help="namespaces side by side")
    parser.add_argument("--only", nargs="*", default=[], help="plain named random faults closure owner proof")
    parser.add_argument("--points", nargs="*", choices=list(POINTS), help="of the section named")
    parser.add_argument("--per-point", type=int, default=3)
    parser.add_argument("--random", type=int, default=210, help="instants; a few lie beyond the end of their run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--way", choices=("abort", "watchdog"), default="abort")
    parser.add_argument("--stand", default="crash", help="one that runs is used, if its nodes are of --gpus")
    parser.add_argument("--gpus", type=int, default=2, help="devices of a node")
    parser.add_argument("--prefix", default="crash", help="of the namespaces")
    parser.add_argument("--not-alone", dest="alone", action="store_false", help="leave out what disturbs the whole stand")
    parser.add_argument("--out", type=Path, default=OUT / "crash-matrix.json")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stand = Stand(name=args.stand, gpus_per_node=args.gpus)
    holder = machine.owner()
    ours = holder is None or holder.name != stand.name or not holder.alive
    running = lifecycle.up(stand, wait_s=600, say=print)
    try:
        cluster = Cluster.connect(str(running.kubeconfig))
        image, own = (push(running.registry, name, print) for name in ("tiny", "hotfire"))
        world = World(running, image, cluster, args.out.with_suffix(""), own)
        matrix = Matrix(args, world, args.out)
        matrix.go()
    finally:
        if ours:
            lifecycle.down(stand, say=print)
    found = figures(list(matrix.cells.values()))
    args.out.write_text(
        json.dumps({"figures": found, "of": sorted({cell["of"] for cell in matrix.cells.values()})}, indent=1) + "\n"
    )
    print()
    for key, value in found.items():
        print(f"{key:36} {value}")
    wrong = violations(found) + [f"{cell} was not carried out" for cell in matrix.lost]
    for line in wrong:
        print("TO DO:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
