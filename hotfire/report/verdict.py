"""`verdict.json`: the run's end for machines; `verdict` and `exit_code` at the top, everything else below."""

import json
from collections.abc import Mapping
from typing import Any

from hotfire.gates.decision import CheckOutcome
from hotfire.record.events import Faulted
from hotfire.report.rows import Row
from hotfire.report.story import Fault, Story, plain


def verdict_json(story: Story) -> dict[str, Any]:
    """The content of verdict.json. Seconds, UTC times, enums as their words."""
    opened = story.opened.model_dump(mode="json", exclude={"type"}) if story.opened else {}
    return {
        "apiVersion": "hotfire/v1",
        "kind": "Verdict",
        "verdict": story.verdict.value,
        "exit_code": story.verdict.exit_code,
        "because": list(story.because),
        **opened,
        "way_back": story.way_back,
        "began": story.began,
        "ended": story.ended,
        "seconds": story.seconds,
        "decision": story.decided.model_dump(mode="json", exclude={"type"}) if story.decided else None,
        "state": story.state,
        "checks": [_check(one) for one in story.outcomes.values()],
        "gates": [event.model_dump(mode="json", exclude={"type"}) for event in story.gates.values()],
        "flows": [event.model_dump(mode="json", exclude={"type"}) for event in story.flows.values()],
        "users": [
            event.model_dump(mode="json", exclude={"type", "intervals", "last"})
            | {"requests": event.requests, "bad": list(event.bad)}
            for event in story.counted.values()
        ],
        "faults": [_fault(one) for one in story.faults],
        "proof": [event.model_dump(mode="json", exclude={"type"}) for event in story.proof],
        "restored": story.restored.model_dump(mode="json", exclude={"type"}) if story.restored else None,
        "stages": story.stages,
        "rows": [_row(one) for one in story.rows],
        "record": {
            "head": story.head,
            "events": len(story.entries),
            "whole": story.broken is None,
            "closed": story.closed,
            "anchored": story.ending.anchored,
            "interrupted": story.ending.interrupted,
            "broken": {"line": story.broken.line, "why": story.broken.why} if story.broken else None,
        },
    }


def unlike(said: Mapping[str, Any], story: Story) -> list[str]:
    """The keys in which a verdict.json is not what its record says."""
    now = json.loads(json.dumps(verdict_json(story)))
    return sorted(key for key in {**now, **said} if now.get(key) != said.get(key))


def _check(one: CheckOutcome) -> dict[str, Any]:
    planned = one.planned
    return {
        "check": one.key, "id": planned.id, "param": planned.param, "suite": planned.suite, "question": planned.question,
        "row": planned.row, "gate": planned.gate.value, "asked": planned.asked, "outcome": one.outcome.value,
        "reason": one.reason, "blame": one.blame, "message": one.message, "details": list(one.details),
        "observed": plain(one.observed), "expected": plain(one.expected), "seconds": one.seconds,
    }  # fmt: skip


def _fault(one: Fault) -> dict[str, Any]:
    def step(event: Faulted) -> dict[str, Any]:
        return {"effect": event.effect, "data": plain(event.data)}

    return {
        "fault": one.name, "outcome": one.outcome.value, "target": one.target, "effect": one.effect, "witness": one.witness,
        "recovery": one.recovery, "steps": {name: step(event) for name, event in one.steps.items()},
    }  # fmt: skip


def _row(one: Row) -> dict[str, Any]:
    return {
        "row": one.name, "outcome": one.outcome.value, "in_part": one.in_part,
        "checks": [check.key for check in one.asked], "not_asked": dict(one.missing),
    }  # fmt: skip
