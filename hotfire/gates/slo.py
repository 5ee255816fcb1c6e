"""From request samples and an objective to a judgement. Pure: columns in, Judgement out.

Latency is counted from the moment a request was due, failures are infinitely late, and a request that the end of the
window cut off can never improve a gate: it counts against PASS, and for FAIL only once its age is over the limit.
Throughput is no gate here: it is a property of the plan as long as the client is sound and nothing is saturated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hotfire.gates.statistics as rules
from hotfire.errors import HarnessError, Unjudged
from hotfire.gates.flow import Flow, flow, longest_stall
from hotfire.gates.statistics import Judgement
from hotfire.words import Outcome, Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

METRICS = ("ttft", "itl", "gap", "e2e", "errors")
RATED = ("poisson", "constant", "gamma", "ramp", "steps", "bursts", "replay")


@dataclass(frozen=True, eq=False)
class Samples:
    """Requests as columns (n,), ascending in `due`, warm-up cut; seconds from t0, NaN for what did not happen.

    error: "" for none, else a class such as `timeout`, `http-5xx`, `backlog` (no slot because the target stalled).
    sent: NaN for what never reached the wire. last: the last byte, or when an error ended it; without `last` and without
    `error` a request was still open at `until`, the end of the observation.
    gap_p99, gap_max: one request's 99th-percentile and largest time between tokens, an open one's last gap included;
    gap_at: when its largest began. heard: every moment at which bytes came from the target, of any request, in any
    order (None when the client kept no such list).
    """

    due: Floats
    sent: Floats
    first_byte: Floats
    first_token: Floats
    last: Floats
    error: NDArray[np.str_]
    gap_p99: Floats
    gap_max: Floats
    tokens: NDArray[np.int64]
    until: float
    gap_at: Floats | None = None
    heard: Floats | None = None

    @staticmethod
    def of(until: float, **columns: ArrayLike) -> Samples:
        """From any sequences, brought into order of `due`. Raises Unjudged NO_DATA when they do not fit together."""
        import numpy as np

        heard = columns.pop("heard", None)
        kinds: dict[str, type] = {"error": str, "tokens": int}
        arrays: dict[str, Any] = {name: np.asarray(column, kinds.get(name, float)) for name, column in columns.items()}
        due = arrays["due"]
        if any(a.shape != due.shape for a in arrays.values()) or np.isnan(due).any() or not math.isfinite(until):
            raise Unjudged("columns of unequal length, or a request without a due time", reason=Reason.NO_DATA)
        if (due[1:] < due[:-1]).any():
            order = np.argsort(due, kind="stable")
            arrays = {name: a[order] for name, a in arrays.items()}
        stamps = None if heard is None else np.sort(np.asarray(heard, float))
        return Samples(**arrays, until=float(until), heard=stamps)

    def __len__(self) -> int:
        return len(self.due)

    @property
    def failed(self) -> Flags:
        """Ended in an error."""
        return np_bool(self.error != "")

    @property
    def unanswered(self) -> Flags:
        """Still open when the window ended."""
        import numpy as np

        return np_bool(np.isnan(self.last) & ~self.failed)

    def up_to(self, due: float, until: float) -> Samples:
        """What was known at `until` of the requests due before `due`: an earlier look at the same run."""
        import numpy as np

        keep = self.due < due
        cut: dict[str, Floats] = {}
        for name in ("sent", "first_byte", "first_token", "last"):
            column = getattr(self, name)[keep]
            cut[name] = np.where(column <= until, column, np.nan)
        known = ~np.isnan(cut["last"]) | (self.failed[keep] & ~(self.last[keep] > until))
        return Samples(
            due=self.due[keep],
            error=np.where(known, self.error[keep], ""),
            gap_p99=np.where(known, self.gap_p99[keep], np.nan),
            gap_max=np.where(known, self.gap_max[keep], np.nan),
            tokens=self.tokens[keep],
            until=until,
            gap_at=None if self.gap_at is None else self.gap_at[keep],
            heard=None if self.heard is None else self.heard[self.heard <= until],
            **cut,
        )


@dataclass(frozen=True, eq=False)
class Population:
    """Who a gate speaks about: bad and unproven (m,) flags, latency (m,) in seconds (goodput: in limits), inf for a failure."""

    bad: Flags
    unproven: Flags
    latency: Floats


def np_bool(flags: ArrayLike) -> Flags:
    """Boolean array, for the type checker's sake."""
    import numpy as np

    return np.asarray(flags, np.bool_)


def population(samples: Samples, metric: str, limit_s: float | None, timeout_s: float = math.inf) -> Population:
    """The requests of one gate. metric: ttft, itl (a request's p99 gap), gap (its largest), e2e, errors.

    limit_s: seconds, None for errors; timeout_s: the age at which an open request is an error for certain.
    An answer of fewer than two tokens has no gap and is left out of itl and gap.
    Raises Unjudged: EMPTY without requests, NO_DATA for an answer without the figure or one from before it was due.
    """
    import numpy as np

    if metric not in METRICS or (limit_s is None) != (metric == "errors"):
        raise HarnessError(f"metric {metric!r} with limit {limit_s}: no such gate")
    if not len(samples):
        raise Unjudged("no request in the window", reason=Reason.EMPTY)
    failed, waiting = samples.failed, samples.unanswered
    seen, speaks = _figures(samples, metric)
    if not speaks.any():
        raise Unjudged(f"no request has a {metric}", reason=Reason.EMPTY)
    late = _late(samples, metric, seen, timeout_s if limit_s is None else limit_s)
    bad = failed | waiting | (late if limit_s is not None else False)
    latency = np.where(failed | waiting, np.inf, seen)
    return Population(bad[speaks], (waiting & ~late)[speaks], latency[speaks])


def goodput(samples: Samples, within: Mapping[str, float]) -> Population:
    """The requests of a goodput gate: good is answered within every limit at once (DistServe's SLO attainment; vLLM,
    GuideLLM and inference-perf count the same per second). within: metric -> seconds; an answer without gaps has none too long.

    Its latency is the worst of the figures, each over its limit. Raises as `population` does.
    """
    import numpy as np

    if not len(samples):
        raise Unjudged("no request in the window", reason=Reason.EMPTY)
    failed, waiting = samples.failed, samples.unanswered
    late, worst = np.zeros(len(samples), bool), np.zeros(len(samples))
    for metric, limit_s in within.items():
        seen, speaks = _figures(samples, metric)
        late |= speaks & _late(samples, metric, seen, limit_s)
        worst = np.fmax(worst, np.where(speaks, seen / limit_s, 0.0))
    return Population(failed | waiting | late, waiting & ~late, np.where(failed | waiting, np.inf, worst))


def _figures(samples: Samples, metric: str) -> tuple[Floats, Flags]:
    """(the metric in seconds, whether the request can have one). Raises Unjudged NO_DATA for an answer that has none."""
    import numpy as np

    failed, waiting = samples.failed, samples.unanswered
    figures = {
        "ttft": samples.first_token - samples.due,
        "itl": samples.gap_p99,
        "gap": samples.gap_max,
        "e2e": samples.last - samples.due,
        "errors": samples.last - samples.due,
    }
    seen = np.round(figures[metric], 9)  # stamps are no finer; the noise of subtraction would rank equal latencies
    speaks = np.ones(len(samples), bool)
    if metric in ("itl", "gap"):
        speaks = failed | waiting | (samples.tokens > 1)
    if (speaks & ~failed & ~waiting & ~(seen >= 0)).any():
        n = int((speaks & ~failed & ~waiting & ~(seen >= 0)).sum())
        raise Unjudged(f"{n} answers have no {metric}, or one from before they were due", reason=Reason.NO_DATA)
    return seen, np_bool(speaks)


def _late(samples: Samples, metric: str, seen: Floats, limit_s: float) -> Flags:
    """Over the limit for certain: what is open is so once it is older."""
    import numpy as np

    age = samples.until - samples.due
    return np_bool(np.where(np.isnan(seen), -np.inf if metric in ("itl", "gap") else age, seen) > limit_s)


def judge(
    samples: Samples,
    metric: str,
    *,
    quantile: float | None = None,
    limit_s: float | None = None,
    ratio: float | None = None,
    within: Mapping[str, float] | None = None,
    timeout_s: float = math.inf,
    arrivals: str,
    confidence: float | None = 0.95,
    look: int = 1,
    last_look: bool,
    required_gates: int = 1,
    windows: int = 1,
) -> Judgement:
    """One objective at one look. Exactly one of (quantile and limit_s) and ratio (of bad ones; errors and goodput).

    within: the limits of goodput, metric -> seconds.

    arrivals: `spaced`, one of RATED, or `closed`, of which only errors are true; confidence: None for a point estimate.
    Raises Unjudged.
    """
    if (quantile is None) != (limit_s is None) or (quantile is None) == (ratio is None):
        raise HarnessError("a gate has either a quantile with a limit, or a ratio")
    if arrivals not in ("spaced", "closed", *RATED):
        raise HarnessError(f"arrivals {arrivals!r}: no rule for them")
    if arrivals == "closed" and metric != "errors" and confidence is not None:
        raise Unjudged(f"a closed loop hides every stall: its {metric} shows nothing", reason=Reason.NO_DATA)
    who = goodput(samples, within) if within else population(samples, metric, limit_s, timeout_s)
    n, bad = len(who.bad), int(who.bad.sum())
    p0 = ratio if ratio is not None else round(1 - (quantile or 0), 9)
    share = 1 - bad / n if within else bad / n
    observed = share if quantile is None else rules.percentile(who.latency, quantile)
    if confidence is None:
        return rules.judge_point(n, bad, p0, look=look, last_look=last_look, observed=observed)
    if arrivals == "spaced":
        return rules.judge_spaced(
            n,
            bad,
            p0,
            confidence=confidence,
            look=look,
            last_look=last_look,
            required_gates=required_gates,
            windows=rules.windowed(who.bad, windows),
            unproven=int(who.unproven.sum()),
            observed=observed,
        )
    return rules.judge_rated(
        who.bad,
        who.latency,
        p0,
        confidence=confidence,
        look=look,
        last_look=last_look,
        required_gates=required_gates,
        windows=windows,
        unproven=who.unproven,
        observed=observed,
    )


@dataclass(frozen=True)
class Silence:
    """The stall gate. seconds: the longest certain silence, and at: when it began (s from t0); exact: every byte of the
    run is accounted for, so that no longer one can hide."""

    outcome: Outcome
    reason: Reason | None
    seconds: float
    at: float
    limit: float
    exact: bool
    detail: str


def stall(samples: Samples, limit_s: float) -> Silence:
    """Was there a time longer than limit_s with requests on the wire and no byte from the target?

    With `heard` the answer is exact. Without it a stream is taken to speak at all times but its largest gap (`gap_at`),
    so FAIL is certain. Where neither is known, a stream with a gap over the limit cannot be judged: Unjudged NO_DATA.
    """
    import numpy as np

    on_wire = ~np.isnan(samples.sent)
    if not on_wire.any():
        raise Unjudged("no request reached the wire", reason=Reason.EMPTY)
    s, until = samples, samples.until
    if (on_wire & s.failed & np.isnan(s.last)).any():
        raise Unjudged("a request failed and nobody kept when", reason=Reason.NO_DATA)
    end = np.where(np.isnan(s.last), until, s.last)
    spoke = on_wire & ~np.isnan(s.first_byte)
    if s.heard is not None:
        seconds, at = longest_stall(s.sent[on_wire], end[on_wire], s.heard)
    elif s.gap_at is None and (s.gap_max[spoke] > limit_s).any():
        raise Unjudged("a stream paused longer than the limit and nobody kept when", reason=Reason.NO_DATA)
    else:
        paused = spoke if s.gap_at is not None else np.zeros(len(s), bool)
        gap_at = np.full(len(s), np.nan) if s.gap_at is None else s.gap_at
        paused = paused & ~np.isnan(gap_at) & (s.gap_max > 0)
        begins = np.concatenate([s.first_byte[spoke], (gap_at + s.gap_max)[paused]])
        ends = np.concatenate([np.where(paused, gap_at, end)[spoke], end[paused]])
        seconds, at = longest_stall(s.sent[on_wire], end[on_wire], begins, np.maximum(begins, ends))
    stalled = seconds > limit_s
    line = f"silent for {seconds:.3g} s from {at:.3g} s on with requests in flight, at most {limit_s:.3g} s are allowed"
    if not stalled:
        line = f"never silent for longer than {seconds:.3g} s with requests in flight, {limit_s:.3g} s are allowed"
    outcome, reason = (Outcome.FAIL, Reason.STALLED) if stalled else (Outcome.PASS, None)
    return Silence(outcome, reason, seconds, at, limit_s, s.heard is not None, line)


def flowed(samples: Samples) -> Flow:
    """How many requests were in flight, and whether that only grew (statistics.md). Raises Unjudged EMPTY."""
    import numpy as np

    return flow(samples.due, np.where(np.isnan(samples.last), np.inf, samples.last))
