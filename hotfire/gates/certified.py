"""May a promote rely on that certificate? Pure: a parsed verdict.json against what is about to be promoted."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hotfire.words import Verdict


def objections(
    certificate: Mapping[str, Any],
    *,
    candidate_digest: str,
    accelerators: str,
    objectives: Sequence[Mapping[str, Any]],
    within_s: float,
    age_s: float | None,
) -> list[str]:
    """Why it does not hold for this promote, one line each; empty if it does (DESIGN: modes).

    objectives: the required ones as {id, metric, statistic, limit, within, confidence}; within_s: how old it may be,
    age_s: how old it is (None when it does not say), seconds.
    """
    return [
        *_identity(certificate, candidate_digest, accelerators),
        *_age(age_s, within_s),
        *(line for objective in objectives for line in _objective(certificate, objective)),
    ]


def _identity(certificate: Mapping[str, Any], digest: str, accelerators: str) -> Iterator[str]:
    if certificate.get("verdict") != Verdict.GO:
        yield f"its verdict is {certificate.get('verdict')}, GO is expected"
    if certificate.get("candidate_digest") != digest:
        seen = str(certificate.get("candidate_digest"))[:12]
        yield f"it is for the candidate {seen}, this one is {digest[:12]}"
    if accelerators == "real" and certificate.get("accelerators") != "real":
        yield f"it was earned on accelerators that are {certificate.get('accelerators')}, the target's are real"


def _age(age_s: float | None, within_s: float) -> Iterator[str]:
    if age_s is None:
        yield "it does not say when it ended"
    elif not 0 <= age_s <= within_s:
        yield f"it is {age_s / 86400:.1f} days old, at most {within_s / 86400:.1f} are allowed"


def _objective(certificate: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """The same objective, at this limit or a stricter one, with this confidence or more, must have passed there at last."""
    events = certificate.get("gates")
    found = [_parts(event) for event in events] if isinstance(events, list) else []
    same = [one for one in found if all(one[0].get(key) == asked[key] for key in ("metric", "statistic"))]
    gate, judgement = same[-1] if same else ({}, {})
    confidence = gate.get("confidence")
    stated = isinstance(confidence, float) and isinstance(asked["confidence"], float)
    sure = asked["confidence"] == "none" or (stated and confidence >= asked["confidence"])
    if not (sure and _stricter(gate, asked) and judgement.get("outcome") == "PASS"):
        yield f"it does not show that {asked['id']} holds at {asked['limit']:g} or stricter"


def _stricter(gate: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """At this limit or a stricter one; goodput: of no smaller a share, within no wider limits."""
    limit, within = gate.get("limit"), gate.get("within")
    if not isinstance(limit, int | float):
        return False
    if asked["metric"] != "goodput":
        return bool(limit <= asked["limit"])
    narrow = isinstance(within, Mapping) and all(within.get(key, math.inf) <= most for key, most in asked["within"].items())
    return bool(narrow and limit >= asked["limit"])


def _parts(event: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Gate and judgement of an event of any shape."""
    gate, judgement = (event.get(key) if isinstance(event, Mapping) else None for key in ("gate", "judgement"))
    return gate if isinstance(gate, Mapping) else {}, judgement if isinstance(judgement, Mapping) else {}
