"""From the record to outcomes, decision and verdict. Pure, and asymmetric on purpose: GO needs everything, a doubt is enough
against it. What stayed silent, what was green without its evidence, what was never planned: each is a doubt.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hotfire.record.events import (
    Anchored,
    Changed,
    Closed,
    Decided,
    Entry,
    Event,
    Faulted,
    Judged,
    Opened,
    Planned,
    PlannedCheck,
    Proved,
    Seen,
    Signalled,
    Suspended,
)
from hotfire.words import Blame, Decision, Effect, Gate, Mode, Outcome, Proof, Reason, State, Verdict

SEVERITY = {Outcome.PASS: 0, Outcome.NOT_RUN: 1, Outcome.INVALID: 2, Outcome.FAIL: 3}
WORSE = {Proof.NOT_APPLICABLE: 0, Proof.PROVEN: 1, Proof.UNPROVEN: 2}
SETTLING = "settle."  # checks that are asked after the decision
OBJECTIVE = "load.slo"
NEEDS_EFFECT = ("faults.effect", "faults.recovers", "faults.errors")  # mean nothing unless the fault really happened
EVIDENCE = re.compile(r"(?P<n>\d+) (?P<noun>\S+)(?: per (?P<per>\S+))?")


@dataclass(frozen=True)
class CheckOutcome:
    """What a planned check came to, after all that was judged of it. reason: None for PASS only; blame: for FAIL, INVALID."""

    planned: PlannedCheck
    outcome: Outcome
    reason: Reason | None = None
    blame: Blame | None = None
    message: str = ""
    details: tuple[str, ...] = ()
    observed: Any = None
    expected: Any = None
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return self.planned.key

    @property
    def decides(self) -> bool:
        """Whether GO needs it."""
        return self.planned.asked and self.planned.gate is Gate.REQUIRED

    @property
    def line(self) -> str:
        """One line for people, without a trailing period."""
        plain = self.reason in (None, Reason.BREACH) or self.message.startswith(str(self.reason))
        said = self.outcome if plain else f"{self.outcome}, {self.reason}"
        whose = f", blame: {self.blame}" if self.blame else ""
        return f"{self.key}: {said}{whose}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class Ending:
    """How the run and its record ended. state: the journal's last; whole: the hash chain holds; anchored: heads of this
    very record were written into the journal, the last of them after the last check before the decision."""

    state: State | None
    closed: bool = True
    whole: bool = True
    anchored: bool = True
    interrupted: bool = False

    @classmethod
    def of(cls, entries: Sequence[Entry], *, whole: bool = True, closing: bool = False) -> "Ending":
        """As the record itself tells it. closing: `closed` is the next thing to be written."""
        events = [entry.event for entry in entries]
        states = [event.state for event in events if isinstance(event, Changed)]
        judged = [event for event in events if isinstance(event, Judged)]
        return cls(
            state=states[-1] if states else None,
            closed=closing or (bool(events) and isinstance(events[-1], Closed)),
            whole=whole,
            anchored=_anchored(entries),
            interrupted=any(isinstance(event, Signalled) for event in events)
            or any(one.reason is Reason.INTERRUPTED for one in judged),
        )


@dataclass(frozen=True)
class Case:
    """All that a verdict rests on."""

    found: Mapping[str, CheckOutcome]
    unplanned: tuple[str, ...] = ()
    points: Mapping[str, Proof] = field(default_factory=dict)
    decision: Decision | None = None
    mode: Mode = Mode.PROMOTE
    owner: str = ""  # who alone can roll back
    suspended: tuple[str, ...] = ()

    @classmethod
    def of(cls, events: Sequence[Event]) -> "Case":
        planned = _planned(events)
        asked = {key for key, check in planned.items() if check.asked}
        judged = dict.fromkeys(event.check for event in events if isinstance(event, Judged))
        points: dict[str, Proof] = {}
        for event in events:
            if isinstance(event, Proved) and event.of == "end":
                points[event.point] = max(points.get(event.point, Proof.NOT_APPLICABLE), event.result, key=WORSE.__getitem__)
        decisions = [event.decision for event in events if isinstance(event, Decided)]
        opened = next((event for event in events if isinstance(event, Opened)), None)
        return cls(
            found=_outcomes(planned, events),
            unplanned=tuple(key for key in judged if key not in asked),
            points=points,
            decision=decisions[-1] if decisions else None,
            mode=opened.mode if opened else Mode.PROMOTE,
            owner=opened.owner if opened else "",
            suspended=tuple(dict.fromkeys(event.line for event in events if isinstance(event, Suspended))),
        )

    @property
    def deciding(self) -> Sequence[CheckOutcome]:
        return [one for one in self.found.values() if one.decides]

    @property
    def against(self) -> Sequence[CheckOutcome]:
        """Required checks that failed by the candidate's own doing."""
        return [one for one in self.deciding if one.outcome is Outcome.FAIL and one.blame is Blame.CANDIDATE]

    @property
    def doubtful(self) -> Sequence[CheckOutcome]:
        """Required checks that neither passed nor speak against the candidate."""
        return [one for one in self.deciding if one.outcome is not Outcome.PASS and one not in self.against]


def outcomes(entries: Sequence[Entry]) -> dict[str, CheckOutcome]:
    """Key -> outcome of every planned check, in the order of the plan."""
    events = [entry.event for entry in entries]
    return _outcomes(_planned(events), events)


def decide(entries: Sequence[Entry]) -> tuple[Decision, tuple[str, ...]]:
    """CONFIRM only if every required check that comes before settling passed and nothing is in doubt; and why."""
    ending = replace(Ending.of(entries, closing=True), anchored=True)  # anchors are part of what settling does
    case = Case.of([entry.event for entry in entries])
    before = {key: one for key, one in case.found.items() if not one.planned.id.startswith(SETTLING)}
    case = replace(case, found=before)
    because = (*_doubts(case, ending), *_lines(case.against), *_lines(case.doubtful))
    if because:
        return Decision.ROLL_BACK, because
    return Decision.CONFIRM, (f"all {len(case.deciding)} required checks passed",)


def verdict(entries: Sequence[Entry], ending: Ending) -> tuple[Verdict, tuple[str, ...]]:
    """GO, NO_GO, INCONCLUSIVE or UNSAFE, and why, most important first."""
    return _verdict(Case.of([entry.event for entry in entries]), ending)


def verdict_of(planned: Iterable[PlannedCheck], judged: Iterable[Judged]) -> Verdict:
    """The verdict that such outcomes lead to in a run whose end was as decided, proven and anchored."""
    case = Case.of([Planned(checks=tuple(planned)), *judged])
    confirm = not (_doubts(case, Ending(State.CONFIRMED)) or case.against or case.doubtful)
    decision, state = (Decision.CONFIRM, State.CONFIRMED) if confirm else (Decision.ROLL_BACK, State.RESTORED)
    return _verdict(replace(case, points={"assumed": Proof.PROVEN}, decision=decision), Ending(state))[0]


def _verdict(case: Case, ending: Ending) -> tuple[Verdict, tuple[str, ...]]:
    against = _lines(case.against)
    doubts = (*_doubts(case, ending), *_lines(case.doubtful))
    if unsafe := _unsafe(case, ending):
        return Verdict.UNSAFE, (*unsafe, *against, *doubts, *case.suspended)
    if _ceiling(ending) or (against and case.owner):
        reached = Verdict.INCONCLUSIVE
    elif against:
        reached = Verdict.NO_GO
    elif doubts or ending.state is not State.CONFIRMED:
        reached = Verdict.INCONCLUSIVE
        doubts = doubts or (f"every check passed, but the run ended {ending.state}",)
    else:
        return Verdict.GO, (f"all {len(case.deciding)} required checks passed, and what serves now is proven",)
    because = (*against, *doubts) if reached is Verdict.NO_GO else (*doubts, *against)
    return reached, (*because, *case.suspended, _serves(case, ending))


def left_to(owner: str) -> str:
    """What is there after a run whose way back is its owner's."""
    return f"hotfire restored nothing: the way back is the owner's, {owner} must roll back"


def _serves(case: Case, ending: Ending) -> str:
    """What there is now, of a run that is no GO and proven."""
    if ending.state is not State.RESTORED:
        return "nothing of the run is left, proven"
    if case.owner:
        return left_to(case.owner)
    return "what was there before is back, proven"


def _lines(found: Iterable[CheckOutcome]) -> tuple[str, ...]:
    """A line each, but one for all that were not run for the same reason: what they wait for is said elsewhere."""
    judged: list[str] = []
    waiting: dict[Reason | None, list[str]] = {}
    for one in found:
        if one.outcome is Outcome.NOT_RUN:
            waiting.setdefault(one.reason, []).append(one.key)
        else:
            judged.append(one.line)
    judged += [f"{len(keys)} NOT_RUN, {reason}: {', '.join(keys)}" for reason, keys in waiting.items()]
    return tuple(judged)


def _unsafe(case: Case, ending: Ending) -> tuple[str, ...]:
    """Why nobody can say what serves now, or why it is not what it should be."""
    state, unproven = ending.state, [point for point, result in case.points.items() if result is Proof.UNPROVEN]
    settled = [one for one in case.deciding if one.planned.id == f"{SETTLING}restored" and SEVERITY[one.outcome] > 1]
    imperfect = bool(_doubts(case, ending) or case.against or case.doubtful)
    rules = (
        (state is None or not state.final, f"the journal ended {state or 'unknown'}, which is no final state"),
        (bool(unproven), f"unproven: {', '.join(unproven)}"),
        (Proof.PROVEN not in case.points.values(), "no point of the end's proof was proven"),
        (bool(settled), "; ".join(one.line for one in settled)),
        (state is State.CONFIRMED and case.decision is not Decision.CONFIRM, "confirmed without a decision to confirm"),
        (state is State.CONFIRMED and imperfect and case.mode is Mode.PROMOTE, "the candidate serves without a GO"),
    )
    return tuple(why for broken, why in rules if broken)


def _ceiling(ending: Ending) -> tuple[str, ...]:
    """What makes a verdict INCONCLUSIVE at best, whatever the checks say."""
    rules = (
        (not ending.whole, "the record's hash chain does not hold"),
        (not ending.closed, "the record was not closed"),
        (not ending.anchored, "the record is not anchored in the journal"),
        (ending.interrupted, "the run was interrupted"),
    )
    return tuple(why for doubtful, why in rules if doubtful)


def _doubts(case: Case, ending: Ending) -> tuple[str, ...]:
    """What stands against GO beside the outcomes themselves."""
    objectives = [one for one in case.found.values() if one.planned.id == OBJECTIVE and one.planned.asked]
    rules = (
        (not case.found, "nothing was planned"),
        (not case.deciding, "no required check was asked: nothing could have failed"),
        (
            bool(objectives) and not any(one.decides for one in objectives),
            "every objective is advisory: none could have failed",
        ),
        (bool(case.unplanned), f"judged without having been planned: {', '.join(case.unplanned)}"),
    )
    return (*_ceiling(ending), *(why for doubtful, why in rules if doubtful))


def _anchored(entries: Sequence[Entry]) -> bool:
    """Whether every anchor is a head this record had, and the last covers every check judged before the decision."""
    heads: dict[str, int] = {}
    anchored, last_judged, decided = -1, -1, False
    for position, entry in enumerate(entries):
        event = entry.event
        if isinstance(event, Anchored):
            if event.head not in heads:
                return False
            anchored = max(anchored, heads[event.head])
        elif isinstance(event, Decided):
            decided = True
        elif isinstance(event, Judged) and not decided and not event.check.startswith(SETTLING):
            last_judged = position
        heads[entry.hash] = position
    return anchored >= max(last_judged, 0)


def _planned(events: Iterable[Event]) -> dict[str, PlannedCheck]:
    """Planned twice, a check is asked and required if either says so."""
    found: dict[str, PlannedCheck] = {}
    for event in events:
        for check in event.checks if isinstance(event, Planned) else ():
            first = found.setdefault(check.key, check)
            if (check.asked, check.gate is Gate.REQUIRED) > (first.asked, first.gate is Gate.REQUIRED):
                found[check.key] = check
    return found


def _outcomes(planned: Mapping[str, PlannedCheck], events: Sequence[Event]) -> dict[str, CheckOutcome]:
    judged: dict[str, list[Judged]] = {}
    seen: dict[str, dict[str, int]] = {}
    effects: dict[str, Effect | None] = {}
    for event in events:
        if isinstance(event, Judged):
            judged.setdefault(event.check, []).append(event)
        elif isinstance(event, Seen):
            nouns = seen.setdefault(event.check, {})
            nouns[event.noun] = nouns.get(event.noun, 0) + event.count
        elif isinstance(event, Faulted) and event.step == "effect":
            effects[event.fault] = event.effect
    found = {key: _outcome(check, judged.get(key, []), seen.get(key, {}), effects) for key, check in planned.items()}
    client = found.get("load.client")
    if client is not None and client.outcome in (Outcome.FAIL, Outcome.INVALID):
        for key, one in found.items():
            if one.planned.id.startswith("load.") and one.outcome is Outcome.FAIL and one.blame is Blame.CANDIDATE:
                found[key] = replace(one, blame=Blame.HARNESS, message=f"{one.message} (the load client was unsound)".strip())
    return found


def _outcome(
    check: PlannedCheck, judged: Sequence[Judged], seen: Mapping[str, int], effects: Mapping[str, Effect | None]
) -> CheckOutcome:
    """The worst that was judged of it; a PASS must have its evidence in the record, and a fault's its proven effect."""
    if not check.asked:
        return CheckOutcome(check, Outcome.NOT_RUN, check.reason or Reason.NOT_ASKED)
    if not judged:
        return CheckOutcome(check, Outcome.NOT_RUN, Reason.SILENT, message="planned and never heard of")
    worst = max(judged, key=lambda one: SEVERITY[one.outcome])
    reason, blame, message = worst.reason, worst.blame, worst.message
    if worst.outcome is Outcome.PASS:
        if missing := _missing(check.evidence, seen):
            return CheckOutcome(
                check, Outcome.INVALID, Reason.NO_EVIDENCE, Blame.HARNESS, f"green without its evidence: {missing}"
            )
        if check.id in NEEDS_EFFECT and effects.get(check.param) is not Effect.CONFIRMED:
            text = f"no witness confirmed the effect of {check.param}"
            return CheckOutcome(check, Outcome.INVALID, Reason.NO_EFFECT, Blame.HARNESS, text)
        reason = blame = None
    elif worst.outcome is Outcome.FAIL:
        reason, blame = reason or Reason.BREACH, blame or check.blames
    elif worst.outcome is Outcome.INVALID:
        reason, blame = reason or Reason.HARNESS, blame or Blame.HARNESS
    else:
        reason, blame = reason or Reason.SKIPPED, None
    return CheckOutcome(
        check, worst.outcome, reason, blame, message, worst.details, worst.observed, worst.expected, worst.seconds
    )


def _missing(evidence: str, seen: Mapping[str, int]) -> str:
    """What of `N noun per other` the record does not hold; empty if it holds it, or if none is needed."""
    needs = EVIDENCE.fullmatch(evidence)
    if needs is None:
        return f"unreadable: {evidence}" if evidence else ""
    population = seen.get(needs["per"], 0) if needs["per"] else 1
    if population == 0:
        return f"no {needs['per']} was seen"
    wanted, got = int(needs["n"]) * population, seen.get(needs["noun"], 0)
    return "" if got >= wanted else f"{got} of {wanted} {needs['noun']} seen"
