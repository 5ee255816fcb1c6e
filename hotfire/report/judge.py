"""`hotfire judge RUN`: everything a run concluded, concluded again from its folder alone, offline.

The chain, each statistical gate from the samples whose digest is recorded, the decision, the verdict. What a gate comes to
now counts beside what was recorded, and the worse of the two wins: no edited figure can make a verdict better.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.gates.decision import Ending, decide, verdict
from hotfire.gates.flow import words
from hotfire.gates.users import burnt, unproven
from hotfire.load import plan, samples
from hotfire.record.events import Entry, Flowed, Gated, Judged, Loaded, Opened
from hotfire.report import objective
from hotfire.report.story import RECORD, Story
from hotfire.report.verdict import unlike
from hotfire.words import Blame, Outcome, Reason, Verdict

COMPARED = ("outcome", "reason", "n", "bad", "share", "limit", "lower", "upper", "observed")


@dataclass(frozen=True)
class Rejudged:
    """verdict: what the folder supports; recorded: what the run concluded, None if it did not come to that; lines: for
    people; differences: every point in which now and then do not agree, one line each."""

    verdict: Verdict
    recorded: Verdict | None
    because: tuple[str, ...]
    differences: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return not self.differences


def judge(folder: Path, anchors: Collection[str] | None = None) -> Rejudged:
    """Recompute a run. anchors: the heads that the run's journal in the cluster holds; without them the chain alone speaks
    for the record, which whoever wrote it anew could have made. Raises BadInput when the folder holds no record."""
    if not (folder / RECORD).is_file():
        raise BadInput(f"{folder}: no {RECORD} in it, the folder of a run is expected")
    story = Story.read(folder)
    lines = [f"run {story.run}: {len(story.entries)} events, head {story.head[:16]}"]
    differences = [f"record: line {story.broken.line}: {story.broken.why}"] if story.broken else []
    lines.append("chain: broken" if story.broken else f"chain: whole, {'closed' if story.closed else 'NOT closed'}")
    said, foreign = _anchored(story, anchors)
    lines.append(said)
    differences += foreign
    again, gate_lines, gate_differences = _gates(folder, story)
    lines += gate_lines
    flow_lines, flow_differences = _flows(folder, story)
    users, user_lines, user_differences = _users(story)
    again += users
    lines += flow_lines + user_lines
    differences += gate_differences + flow_differences + user_differences
    entries = [*story.entries, *(_as_entry(story, event) for event in again)]
    reached, because = verdict(entries, Ending.of(story.entries, whole=story.broken is None))
    differences += _decision(story) + _concluded(folder, story, reached)
    lines += [f"DIFFERS  {line}" for line in differences]
    lines += [f"verdict: {reached} ({'as recorded' if reached is story.concluded else f'recorded: {story.concluded or None}'})"]
    lines += [f"  {line}" for line in because]
    return Rejudged(reached, story.concluded, because, tuple(differences), tuple(lines))


def _anchored(story: Story, anchors: Collection[str] | None) -> tuple[str, list[str]]:
    """(line, differences): whether the record holds what was anchored while it was written."""
    if anchors is None:
        return "anchors: not checked", []  # the journal is in the cluster, and this works without one
    lacking = {*anchors} - {entry.hash for entry in story.entries}
    wrong = [f"anchors: the record does not hold {head[:16]}: it is not what the run wrote" for head in sorted(lacking)]
    return f"anchors: {len(anchors) - len(lacking)} of {len(anchors)} are in the record", wrong or (
        [] if anchors else ["anchors: the journal holds none"]
    )


def _gates(folder: Path, story: Story) -> tuple[list[Judged], list[str], list[str]]:
    """Each gate again: (outcomes that count beside the recorded ones, lines, differences)."""
    again: list[Judged] = []
    lines: list[str] = []
    differences: list[str] = []
    loaded = {(event.name, event.look): event for event in story.all(Loaded)}
    read: dict[tuple[str, str], samples.Samples | HarnessError | Unjudged] = {}
    for event in story.all(Gated):
        load = loaded.get((event.load, event.look)) or story.loads.get(event.load)
        now = _again(folder, event, load, read)
        wrong = _differences(event.judgement, now)
        differences += [f"{event.check}, look {event.look}: {line}" for line in wrong]
        lines.append(f"gate {event.check}, look {event.look}: {now['outcome'] or 'undecided'}, {now.get('detail', '')}")
        if event is story.gates[event.check] and now["outcome"] is not None:
            again.append(_judged(event.check, now))
    for key, one in story.outcomes.items():
        if one.planned.id in ("load.slo", "load.regression") and one.outcome is Outcome.PASS and key not in story.gates:
            differences.append(f"{key}: PASS is recorded, without an evaluation that could be repeated")
            again.append(Judged(check=key, outcome=Outcome.INVALID, reason=Reason.NO_EVIDENCE, blame=Blame.HARNESS))
    return again, lines, differences


def _flows(folder: Path, story: Story) -> tuple[list[str], list[str]]:
    """How requests flowed under each load, again: (lines, differences)."""
    lines: list[str] = []
    differences: list[str] = []
    loaded = {(event.name, event.look): event for event in story.all(Loaded)}
    for event in story.all(Flowed):
        load = loaded.get((event.load, event.look))
        found = _samples(folder, load) if load else HarnessError("no samples of it are recorded")
        if not isinstance(found, samples.Samples):
            differences.append(f"load {event.load}, look {event.look}: {found}")
            continue
        now = objective.flowed(found, event.requests, event.until)
        differences += [f"load {event.load}, look {event.look}: {line}" for line in _differences(event.flow, now, tuple(now))]
        lines.append(f"load {event.load}, look {event.look}: {words(now)}")
    return lines, differences


def _users(story: Story) -> tuple[list[Judged], list[str], list[str]]:
    """The burn guard of users' requests, again: (outcomes that count beside the recorded ones, lines, differences)."""
    again: list[Judged] = []
    lines: list[str] = []
    differences: list[str] = []
    ruled = any(one.since for one in story.all(Opened))  # records of before are no worse for a rule that was not theirs
    for event in story.counted.values():
        now = burnt(event.parts, event.intervals)
        lines.append(f"users {event.check}: {now[1] if now else 'no objective burns'}, {event.requests:,} requests counted")
        if (now[0] if now else None) != event.burnt:
            differences.append(f"{event.check}: burnt was {event.burnt}, it is {now[0] if now else None}")
        passed = event.check in story.outcomes and story.outcomes[event.check].outcome is Outcome.PASS
        if now:
            again.append(Judged(check=event.check, outcome=Outcome.FAIL, message=now[1]))
        elif passed and ruled and (why := unproven(event.parts, event.intervals, event.ours)):
            differences.append(f"{event.check}: PASS is recorded; {why[1]}")
            again.append(Judged(check=event.check, outcome=Outcome.INVALID, reason=why[0], message=why[1]))
    for key, one in story.outcomes.items():
        if one.planned.id == "rollout.users" and one.outcome is Outcome.PASS and key not in story.counted:
            differences.append(f"{key}: PASS is recorded, without counts that could be judged again")
            again.append(Judged(check=key, outcome=Outcome.INVALID, reason=Reason.NO_EVIDENCE, blame=Blame.HARNESS))
    return again, lines, differences


def _again(
    folder: Path,
    event: Gated,
    load: Loaded | None,
    read: dict[tuple[str, str], samples.Samples | HarnessError | Unjudged],
) -> dict[str, Any]:
    """The judgement as a record would hold it; what cannot be judged any more as INVALID with its reason."""
    if load is None:
        return _invalid(Reason.NO_EVIDENCE, f"no samples of the load {event.load} are recorded")
    key = (load.samples, load.samples_digest)
    if key not in read:
        read[key] = _samples(folder, load)
    found = read[key]
    if isinstance(found, Unjudged):
        return _invalid(found.reason, found.message)
    if isinstance(found, HarnessError):
        return _invalid(Reason.UNANCHORED, str(found))
    try:
        return objective.judge(found, event.gate, look=event.look, last_look=event.last_look).as_record()
    except Unjudged as unjudged:
        return _invalid(unjudged.reason, unjudged.message)
    except (KeyError, ValueError, TypeError) as error:
        return _invalid(Reason.NO_EVIDENCE, f"the gate is not described in full: {type(error).__name__} {error}")


def _samples(folder: Path, load: Loaded) -> samples.Samples | HarnessError | Unjudged:
    """All samples of a load, if plan and samples are the recorded ones and lie inside the run's folder."""
    root = folder.resolve()
    for name in (load.plan, load.samples):
        if not (root / name).resolve().is_relative_to(root):
            return HarnessError(f"{name} lies outside the run's folder")
        if not (root / name).is_file():
            return HarnessError(f"{name} is not there any more")
    try:
        plan.load(root / load.plan, load.plan_digest)
        return samples.read(root / load.samples, load.samples_digest)
    except BadInput as bad:
        return HarnessError(str(bad))
    except (HarnessError, Unjudged) as error:
        return error


def _invalid(reason: Reason, detail: str) -> dict[str, Any]:
    return {"outcome": Outcome.INVALID, "reason": reason, "detail": detail}


def _judged(key: str, now: Mapping[str, Any]) -> Judged:
    blame = Blame.HARNESS if now["outcome"] == Outcome.INVALID else None
    return Judged(check=key, outcome=now["outcome"], reason=now["reason"], blame=blame, message=str(now.get("detail", "")))


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], compared: Sequence[str] = COMPARED) -> list[str]:
    return [
        f"{name} was {then.get(name)}, it is {now.get(name)}"
        for name in compared
        if (name in then or name in now) and not _same(then.get(name), now.get(name))
    ]


def _same(then: object, now: object) -> bool:
    """Equal, floats to eight digits: another numpy may sum in another order."""
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(_same, then, now))
    if isinstance(then, int | float) and isinstance(now, int | float):
        return math.isclose(then, now, rel_tol=1e-8, abs_tol=1e-12)
    return (None if then is None else str(then)) == (None if now is None else str(now))


def _decision(story: Story) -> list[str]:
    if story.decided is None:
        return ["no decision is recorded"]
    position = story.events.index(story.decided)
    now, because = decide(story.entries[:position])
    same = now is story.decided.decision
    return [] if same else [f"decision: {story.decided.decision} is recorded, {now} follows from the record: {because[0]}"]


def _concluded(folder: Path, story: Story, reached: Verdict) -> list[str]:
    wrong = [] if story.concluded is reached else [f"verdict: {story.concluded or 'none'} is recorded, {reached} follows"]
    file = folder / "verdict.json"
    if not file.is_file():
        return [*wrong, "verdict.json is not there: the reports were not whole"] if story.closed else wrong
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        verdict = said["verdict"]
    except (ValueError, KeyError, TypeError):
        return [*wrong, "verdict.json cannot be read"]
    if verdict != reached:
        return [*wrong, f"verdict.json says {verdict}, {reached} follows"]
    other = unlike(said, story)
    return [*wrong, f"verdict.json differs from the record in {', '.join(other)}"] if other else wrong


def _as_entry(story: Story, event: Judged) -> Entry:
    """What was found now, beside what was recorded; never written anywhere."""
    last = story.entries[-1]
    return Entry(seq=last.seq + 1, at=last.at, t=last.t, event=event, prev=last.hash, hash="recomputed")
