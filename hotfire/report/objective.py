"""One objective on one load: how a gate is described in the record, and how it is judged from the samples, then and offline.

The run and `hotfire judge` use the same two functions, so that they can only differ where record and samples do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hotfire.gates import slo as gate_rules
from hotfire.gates.statistics import Judgement
from hotfire.load.samples import Samples
from hotfire.scenario.model import Load, Slo


def describe(objective: Slo, load: Load, *, requests: int, until: float, required_gates: int) -> dict[str, Any]:
    """The `gate` of a Gated event: all that `judge` needs beside the samples.

    requests: counted ones up to this look; until: end of the observation, seconds from t0; limit: seconds or a share.
    """
    return {
        "metric": objective.metric,
        "statistic": objective.statistic,
        "limit": objective.limit.value,
        "confidence": objective.confidence,
        "arrivals": load.arrivals.kind,
        "timeout_s": load.timeout,
        "requests": requests,
        "until": until,
        "required_gates": required_gates,
    }


def judge(samples: Samples, gate: Mapping[str, Any], *, look: int, last_look: bool) -> Judgement:
    """From all samples of a load and a described gate to a judgement. Raises Unjudged as hotfire.gates.slo.judge does."""
    share = gate["metric"] == "errors"
    confidence = gate["confidence"]
    return gate_rules.judge(
        window(samples, int(gate["requests"]), float(gate["until"])),
        gate["metric"],
        quantile=None if share else int(gate["statistic"][1:]) / 100,
        limit_s=None if share else float(gate["limit"]),
        ratio=float(gate["limit"]) if share else None,
        timeout_s=float(gate["timeout_s"]),
        arrivals=str(gate["arrivals"]).split()[0],
        confidence=None if confidence in (None, "none") else float(confidence),
        look=look,
        last_look=last_look,
        required_gates=int(gate["required_gates"]),
    )


def window(samples: Samples, requests: int, until: float) -> gate_rules.Samples:
    """The first so many counted requests, as the gates take them; what was cut off at the end is open, not failed."""
    import numpy as np

    kept = samples.counted(requests)
    names = np.array(kept.names["err"], dtype=str)
    return gate_rules.Samples.of(
        until,
        due=kept.due,
        sent=kept.sent,
        first_byte=kept.fb,
        first_token=kept.ft,
        last=np.where(kept.censored, np.nan, kept.end),
        error=np.where(kept.censored, "", names[kept.err] if len(kept) else names[:0]),
        gap_p99=kept.gap_p99,
        gap_max=kept.gap_max,
        tokens=kept.n,
    )
