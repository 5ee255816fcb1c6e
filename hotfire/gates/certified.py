"""May a promote rely on that certificate? Pure: a parsed verdict.json against what is about to be promoted."""

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

    objectives: the required ones as {id, metric, statistic, limit, confidence}; within_s: how old it may be, age_s: how old
    it is (None when it does not say), seconds.
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
    """The same objective, at this limit or a stricter one, with this confidence or more, must have passed there."""
    for event in certificate.get("gates") or ():
        gate, judged = event.get("gate") or {}, event.get("judgement") or {}
        same = (gate.get("metric"), gate.get("statistic")) == (asked["metric"], asked["statistic"])
        stated = isinstance(gate.get("confidence"), float) and isinstance(asked["confidence"], float)
        sure = asked["confidence"] == "none" or (stated and gate["confidence"] >= asked["confidence"])
        if same and sure and judged.get("outcome") == "PASS" and gate.get("limit", float("inf")) <= asked["limit"]:
            return
    yield f"it does not show that {asked['id']} holds at {asked['limit']:g} or stricter"
