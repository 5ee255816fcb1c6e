"""The record as the reports tell it: one digest of the entries, made once, rendered in several formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hotfire.gates.decision import CheckOutcome, Ending, outcomes, verdict
from hotfire.record.events import (
    Armed,
    Changed,
    Closed,
    Concluded,
    Counted,
    Decided,
    Entry,
    Event,
    Faulted,
    Flowed,
    Gated,
    Judged,
    Loaded,
    Marked,
    Opened,
    Planned,
    Proved,
    Restored,
    Stage,
)
from hotfire.record.reader import Broken, read_as_far
from hotfire.report.rows import Row, rows
from hotfire.words import IN_PROCESS, Gate, Outcome, State, Verdict

E = TypeVar("E", bound=Event)
RECORD = "record.jsonl"


@dataclass(frozen=True)
class Fault:
    """The life of one fault. steps: step -> its last event; checks: the outcomes of its checks."""

    name: str
    steps: Mapping[str, Faulted]
    checks: Mapping[str, CheckOutcome]

    @property
    def target(self) -> str:
        data = self.steps["target"].data if "target" in self.steps else {}
        return "/".join(str(data[key]) for key in ("pod", "container") if data.get(key)) or _words(data)

    @property
    def effect(self) -> str:
        step = self.steps.get("effect")
        return str(step.effect) if step and step.effect else "never witnessed"

    @property
    def witness(self) -> str:
        step = self.steps.get("effect")
        evidence = (step.data.get("evidence") or step.data) if step else ""
        return "; ".join(map(str, evidence)) if isinstance(evidence, list | tuple) else _words(evidence)

    @property
    def control(self) -> str:
        found = next((one for one in self.checks.values() if one.planned.id == "faults.control"), None)
        step = self.steps.get("control")
        return found.outcome.value if found else str(step.effect or "") if step else ""

    @property
    def recovery(self) -> str:
        step = self.steps.get("recovered")
        seconds = step.data.get("seconds") if step else None
        found = next((one for one in self.checks.values() if one.planned.id == "faults.recovers"), None)
        took = f"{seconds:.1f} s" if isinstance(seconds, int | float) else ""
        within = step.data.get("within") if step else None
        limit = f" of {within:g} s" if isinstance(within, int | float) else ""
        return (
            f"{took}{limit}" if took else (found.line.split(": ", 1)[1] if found and found.outcome is not Outcome.PASS else "")
        )

    @property
    def outcome(self) -> Outcome:
        """The worst of its checks."""
        from hotfire.gates.decision import SEVERITY

        return max((one.outcome for one in self.checks.values()), key=SEVERITY.__getitem__, default=Outcome.NOT_RUN)


def _words(data: object) -> str:
    if isinstance(data, dict):
        return ", ".join(f"{key} {value}" for key, value in data.items())
    return str(data)


class Story:
    """What a record says. Raises nothing for a broken one: it tells what holds, and the verdict knows of the break."""

    def __init__(self, entries: Sequence[Entry], broken: Broken | None = None) -> None:
        self.entries, self.broken = entries, broken
        self.events = [entry.event for entry in entries]
        self.outcomes = outcomes(entries)
        self.ending = Ending.of(entries, whole=broken is None)
        self.verdict, because = verdict(entries, self.ending)
        self.because = ((f"line {broken.line}: {broken.why}",) if broken else ()) + because

    @classmethod
    def read(cls, folder: Path) -> Story:
        """From a run's folder."""
        return cls(*read_as_far(folder / RECORD))

    def all(self, kind: type[E]) -> list[E]:
        """Every event of a kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E | None:
        found = self.all(kind)
        return found[-1] if found else None

    @property
    def opened(self) -> Opened | None:
        return self.last(Opened)

    @property
    def way_back(self) -> str:
        """Whether who would restore was proven to stand ready before the change, and who: the first word is never cut off."""
        who = self.opened.way_back if self.opened else "unknown"
        if self.owner:
            return who
        return f"armed: {who}" if self.last(Armed) else "in-process, not armed" if who == IN_PROCESS else f"not armed: {who}"

    @property
    def owner(self) -> str:
        """Who alone can roll back; empty where hotfire restores."""
        return self.opened.owner if self.opened else ""

    @property
    def run(self) -> str:
        return self.opened.run if self.opened else "unknown"

    @property
    def head(self) -> str:
        return self.entries[-1].hash if self.entries else ""

    @property
    def concluded(self) -> Verdict | None:
        """What the run itself concluded, if it came to that."""
        found = self.last(Concluded)
        return found.verdict if found else None

    @property
    def decided(self) -> Decided | None:
        return self.last(Decided)

    @property
    def state(self) -> State | None:
        found = self.last(Changed)
        return found.state if found else None

    @property
    def began(self) -> str:
        return self.entries[0].at if self.entries else ""

    @property
    def ended(self) -> str:
        return self.entries[-1].at if self.entries else ""

    @property
    def seconds(self) -> float:
        return self.entries[-1].t if self.entries else 0.0

    @cached_property
    def stages(self) -> dict[str, float]:
        """Suite -> seconds it took, as far as it ended."""
        began: dict[str, float] = {}
        out: dict[str, float] = {}
        for entry in self.entries:
            if isinstance(entry.event, Stage):
                if entry.event.phase == "began":
                    began.setdefault(entry.event.suite, entry.t)
                elif entry.event.suite in began:
                    out[entry.event.suite] = round(entry.t - began[entry.event.suite], 3)
        return out

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        return rows(self.outcomes)

    @cached_property
    def gates(self) -> dict[str, Gated]:
        """Check -> its last evaluation."""
        return {event.check: event for event in self.all(Gated)}

    @cached_property
    def counted(self) -> dict[str, Counted]:
        """Check -> what the pods counted of all requests, as last told."""
        return {event.check: event for event in self.all(Counted)}

    @cached_property
    def loads(self) -> dict[str, Loaded]:
        """Load -> what was last said of it."""
        return {event.name: event for event in self.all(Loaded)}

    @cached_property
    def flows(self) -> dict[str, Flowed]:
        """Load -> how requests flowed under it, as last said."""
        return {event.load: event for event in self.all(Flowed)}

    @cached_property
    def marks(self) -> dict[str, list[Marked]]:
        """Load -> the marks set before it ended: a mark belongs to the load that is reported next."""
        out: dict[str, list[Marked]] = {}
        waiting: list[Marked] = []
        for event in self.events:
            if isinstance(event, Marked):
                waiting.append(event)
            elif isinstance(event, Loaded):
                out.setdefault(event.name, []).extend(waiting)
                waiting = []
        return out

    @cached_property
    def faults(self) -> list[Fault]:
        """Every fault that was asked for or tried, in order."""
        names = dict.fromkeys(
            one.planned.param for one in self.outcomes.values() if one.planned.id.startswith("faults.") and one.planned.asked
        )
        names |= dict.fromkeys(event.fault for event in self.all(Faulted))
        return [
            Fault(
                name,
                {event.step: event for event in self.all(Faulted) if event.fault == name},
                {
                    key: one
                    for key, one in self.outcomes.items()
                    if one.planned.id.startswith("faults.") and one.planned.param == name
                },
            )
            for name in names
            if name
        ]

    @property
    def proof(self) -> list[Proved]:
        """The points of the end's proof, each as it was last judged."""
        return list({event.point: event for event in self.all(Proved) if event.of == "end"}.values())

    @property
    def restored(self) -> Restored | None:
        return self.ways_back.get("end")

    @property
    def ways_back(self) -> dict[str, Restored]:
        """Of the end, the rehearsal and the drill: the last of each."""
        return {event.of: event for event in self.all(Restored)}

    @property
    def closed(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Closed)

    def count(self, outcome: Outcome, *, required: bool = True) -> int:
        """How many of the asked checks came to this."""
        return sum(
            one.outcome is outcome and one.planned.asked and (not required or one.planned.gate is Gate.REQUIRED)
            for one in self.outcomes.values()
        )

    def judged(self, key: str) -> list[Judged]:
        return [event for event in self.all(Judged) if event.check == key]

    @property
    def planned(self) -> Planned | None:
        return self.last(Planned)


def moment(text: str) -> datetime:
    """An entry's wall time."""
    return datetime.fromisoformat(text)


def plain(value: Any) -> Any:
    """For JSON: enums as their words, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
