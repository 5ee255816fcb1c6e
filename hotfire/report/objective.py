"""One objective on one load: how a gate is described in the record, and how it is judged from the samples, then and offline.

The run and `hotfire judge` use the same two functions, so that they can only differ where record and samples do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hotfire.errors import Unjudged
from hotfire.gates import guard
from hotfire.gates import slo as gate_rules
from hotfire.gates.flow import SATURATED
from hotfire.gates.laws import e_value
from hotfire.gates.regression import judge_regression
from hotfire.gates.statistics import Judgement, alphas, percentile
from hotfire.load.samples import Samples
from hotfire.report.stored import Stored
from hotfire.scenario.model import Load, Slo, bad_share
from hotfire.words import Outcome, Reason

SHARES = ("errors", "goodput", "regression")  # metrics whose limit is a share of the requests


def describe(objective: Slo, load: Load, *, requests: int, until: float, required_gates: int, windows: int) -> dict[str, Any]:
    """The `gate` of a Gated event: all that `judge` needs beside the samples.

    requests: counted ones up to this look; until: end of the observation, seconds from t0; limit: seconds or a share.
    windows: how many equal ones must each be within the limit.
    """
    return {
        "metric": objective.metric,
        "statistic": objective.statistic,
        "limit": objective.limit.value,
        "within": {metric: limit.value for metric, limit in objective.within.items()},
        "confidence": objective.confidence,
        "arrivals": load.arrivals.kind,
        "timeout_s": load.timeout,
        "requests": requests,
        "until": until,
        "required_gates": required_gates,
        "windows": windows,
    }


def describe_regression(
    objective: Slo, stored: Sequence[Stored], margin: float, described: Mapping[str, Any]
) -> dict[str, Any]:
    """The `gate` of a comparison with stored runs, each by its percentile over as many requests as the shortest run has."""
    requests = min(int(described["requests"]), *(one.requests for one in stored))
    values = [_percentile(window(one.samples, requests, one.until), objective.metric, objective.statistic) for one in stored]
    runs = [{"run": one.run, "candidate": one.candidate, "value": value} for one, value in zip(stored, values, strict=True)]
    changed = {"metric": "regression", "of": objective.metric, "limit": margin, "requests": requests, "stored": runs}
    confidence = 0.95 if described["confidence"] == "none" else described["confidence"]
    return dict(described) | changed | {"within": {}, "confidence": confidence}


def _percentile(kept: gate_rules.Samples, metric: str, statistic: str) -> float:
    return percentile(gate_rules.population(kept, metric, math.inf).latency, int(statistic[1:]) / 100)


def judge(samples: Samples, gate: Mapping[str, Any], *, look: int, last_look: bool) -> Judgement:
    """From all samples of a load and a described gate to a judgement. Raises Unjudged as the rules of hotfire.gates do."""
    if gate["metric"] == "regression":
        kept, values = window(samples, int(gate["requests"]), float(gate["until"])), [one["value"] for one in gate["stored"]]
        return judge_regression(
            _percentile(kept, gate["of"], gate["statistic"]), values, float(gate["limit"]),
            confidence=float(gate["confidence"]), required_gates=int(gate["required_gates"]), requests=len(kept), look=look,
        )  # fmt: skip
    share = gate["metric"] in SHARES
    confidence = gate["confidence"]
    kept = window(samples, int(gate["requests"]), float(gate["until"]))
    found = gate_rules.judge(
        kept,
        gate["metric"],
        quantile=None if share else int(gate["statistic"][1:]) / 100,
        limit_s=None if share else float(gate["limit"]),
        ratio=_allowed(gate) if share else None,
        within=gate.get("within"),
        timeout_s=float(gate["timeout_s"]),
        arrivals=str(gate["arrivals"]).split()[0],
        confidence=None if confidence in (None, "none") else float(confidence),
        look=look,
        last_look=last_look,
        required_gates=int(gate["required_gates"]),
        windows=int(gate.get("windows", 1)),  # records of before had one
    )
    if found.outcome is not Outcome.FAIL and _long(gate) and burning(samples, gate):
        said = f"the newest {guard.RECENT:,} of them fail it beyond doubt; {found.detail}"
        return replace(found, outcome=Outcome.FAIL, reason=Reason.BREACH, needs=None, detail=said)
    if gate["arrivals"] == "spaced" or found.outcome is Outcome.PASS:
        return found
    flow = gate_rules.flowed(kept)
    if flow.confirmed and found.outcome is not Outcome.FAIL and gate["metric"] != "errors":
        said = f"{SATURATED}, and it grew in each half of the window; {found.detail}"
        return replace(found, outcome=Outcome.FAIL, reason=Reason.SATURATED, needs=None, detail=said)
    return replace(found, detail=f"{found.detail}; {SATURATED}") if flow.saturated and found.outcome else found


def flowed(samples: Samples, requests: int, until: float) -> dict[str, Any]:
    """The `flow` of a Flowed event: how many requests were in flight in a window. Raises Unjudged EMPTY."""
    return gate_rules.flowed(window(samples, requests, until)).as_record()


def burning(samples: Samples, gate: Mapping[str, Any]) -> bool:
    """Whether the load may end now, since this gate fails beyond doubt: at whatever moment one looks at a spaced load, at a
    checkpoint of a rated one (`gates.guard`; of a long one the newest requests). Judged on the same requests it is FAIL."""
    if gate["confidence"] in (None, "none"):
        return False
    since = int(gate["requests"]) - guard.RECENT if _long(gate) else 0
    try:
        who = _population(window(samples, int(gate["requests"]), float(gate["until"]), since), gate)
    except Unjudged:  # nothing yet that could burn
        return False
    bad, alpha = who.bad & ~who.unproven, alphas(float(gate["confidence"]), int(gate["required_gates"]))[1]
    if gate["arrivals"] == "spaced":
        return e_value(len(bad), int(bad.sum()), _allowed(gate)) >= 1 / alpha
    return guard.burns(bad, who.latency, _allowed(gate), alpha)


def _long(gate: Mapping[str, Any]) -> bool:
    return gate["arrivals"] != "spaced" and int(gate["requests"]) > guard.MOST


def _allowed(gate: Mapping[str, Any]) -> float:
    return bad_share(str(gate["metric"]), str(gate["statistic"]), float(gate["limit"]))


def _population(kept: gate_rules.Samples, gate: Mapping[str, Any]) -> gate_rules.Population:
    if gate["metric"] == "goodput":
        return gate_rules.goodput(kept, gate["within"])
    limit = None if gate["metric"] == "errors" else float(gate["limit"])
    return gate_rules.population(kept, gate["metric"], limit, float(gate["timeout_s"]))


def window(samples: Samples, requests: int, until: float, since: int = 0) -> gate_rules.Samples:
    """The first so many counted requests, as the gates take them; what was cut off at the end is open, not failed. since:
    without so many of the first."""
    import numpy as np

    kept = samples.counted(requests, since)
    return gate_rules.Samples.of(
        until,
        due=kept.due,
        sent=kept.sent,
        first_byte=kept.fb,
        first_token=kept.ft,
        last=np.where(kept.censored, np.nan, kept.end),
        error=np.where(kept.is_error() & ~kept.censored, "!", ""),  # whether is all that is asked; names take 80 bytes each
        gap_p99=kept.gap_p99,
        gap_max=kept.gap_max,
        tokens=kept.n,
    )
