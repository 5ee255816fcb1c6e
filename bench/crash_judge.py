"""What became of a run: the end by the comparer, whether everybody who spoke of it said the same, and how long it took."""

import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import comparer
from crash_world import VARIANTS, Place, Process

from hotfire.kube.wait import Watch
from hotfire.rollout.job import WATCHES

Cell = dict[str, Any]
SETTLE_S, NONE_S = 60.0, 10.0  # in which a watchdog restores / after which there is none


def judge(place: Place, run: Process, before: str, killed: bool, abort_exit: int | None) -> Cell:
    """The end by the comparer; then whether everybody who spoke of it said the same."""
    after, stone = place.look(), place.tombstone()
    stone = stone if stone.get("run") != before else {}
    flags = VARIANTS[run.variant][0]
    asked = place.asked(*flags)
    not_old, not_new = comparer.not_old(place.before, after), comparer.not_new(place.before, after, asked)
    end = "mixed" if not_old and not_new else "new" if not_old else "old"
    state, verdict = str(stone.get("state", "")), run.verdict
    legal = "new" if state == "CONFIRMED" else "old"
    mixed = (
        []
        if end == legal
        else [f"{end}, {legal} is legal (journal {state or 'none'})", *(not_old if legal == "old" else not_new)]
    )
    wrong: list[str] = []
    if end != "mixed" and (said := _answer(place)) != end:
        wrong.append(f"it ends {end} and answers {said!r}")
    if stone and not stone["settled"]:
        wrong.append(f"the journal is {state} and has not ended")
    if stone.get("last_verdict") == "GO" and end != "new":
        wrong.append("the tombstone says GO")
    if verdict and (verdict["verdict"] == "GO") != (end == "new"):
        wrong.append(f"verdict.json says {verdict['verdict']}, it ends {end}")
    if not killed:
        code = run.popen.returncode
        wrong += [] if code == (0 if end == "new" else 20) else [f"exit {code}, it ends {end}"]
    if abort_exit is not None:
        right = (0, 21, 22) if state == "CONFIRMED" else (0, 21)  # 0: it had ended; the record lost: UNSAFE (DESIGN 4)
        wrong += [] if abort_exit in right else [f"abort: exit {abort_exit}, {' or '.join(map(str, right))} is right"]
    return {
        "end": end,
        "state": state,
        "mixed": mixed[:20],
        "wrong": wrong,
        "orphans": comparer.orphans(place.before, after, asked if state == "CONFIRMED" else ()),
    }


def await_end(place: Place, before: str, within: float = SETTLE_S) -> Cell:
    """Until the journal has ended without a command and the watchdog has gone; watched: whether there ever was one."""
    began, watched = time.monotonic(), False
    while (spent := time.monotonic() - began) < (within if watched else NONE_S):
        stone = place.tombstone()
        settled = stone.get("run") != before and bool(stone.get("settled"))
        there = bool(place.kubectl("get", "jobs,pods", "-l", WATCHES, "-o", "name").stdout)
        watched = watched or there or settled
        if settled and not there:
            break
        time.sleep(0.5)  # a look is two processes of kubectl
    return {"watchdog_s": round(spent, 2), "watched": watched}


def _answer(place: Place) -> str:
    try:
        return place.answer()
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody answered
        return f"{type(error).__name__}: {error}"[:120]


class pods_ready:
    """The last moment at which a pod of the place was seen to become Ready, by the wall clock."""

    def __init__(self, place: Place) -> None:
        self.place, self.stop, self.last, self.known = place, threading.Event(), 0.0, dict[str, bool]()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Callable[[], float]:
        self.thread.start()
        return lambda: self.last

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(5)

    def _watch(self) -> None:
        with Watch(self.place.world.cluster, "v1", "Pod", self.place.name) as watch:
            while not self.stop.is_set():
                try:
                    kind, what = watch.events.get(timeout=0.2)
                except queue.Empty:
                    continue
                pods = list(what.values()) if kind == "LIST" else [what] if kind in ("ADDED", "MODIFIED") else []
                for pod in pods:
                    uid, now = pod["metadata"]["uid"], comparer.ready(pod)
                    if now and not self.known.get(uid) and kind != "LIST":
                        self.last = time.time()
                    self.known[uid] = now


def times(run: Process, last_ready: float, first_write: float) -> Cell:
    """From the run's own record, against the eyes outside: both in seconds, absent where there is nothing to say.

    first_write: when the journal was first seen to ask for the way back, by the wall clock; 0 when it never did.
    """
    failed = restoring = restored = 0.0
    for line in run.events():
        event, at = line["event"], datetime.fromisoformat(line["at"]).timestamp()
        if event["type"] == "judged" and event["outcome"] == "FAIL" and not failed:
            failed = at
        if event["type"] == "changed" and event["state"] == "RESTORING" and not restoring:
            restoring = at
        if event["type"] == "proved" and event["point"] == "residue":
            restored = restored or at
    found: Cell = {}
    if failed and first_write > failed:
        found["breach_to_first_write_s"] = round(first_write - failed, 3)
    if restoring and restored and last_ready > restoring:
        found["restored_beyond_ready_s"] = round(restored - last_ready, 3)
    return found
