"""`certificate.html`: one A4 page that a release manager can sign, print in black and white, and check again.

No script, nothing loaded from anywhere. What does not fit is counted and pointed to, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from hotfire.errors import HarnessError, Unjudged
from hotfire.gates.decision import SEVERITY, left_to
from hotfire.gates.flow import words
from hotfire.load import samples
from hotfire.record.events import Counted, Gated, Loaded
from hotfire.report.objective import SHARES
from hotfire.report.plot import ecdf_plot, latency_plot
from hotfire.report.story import Story, moment
from hotfire.words import Outcome, Proof, Reason, State, Verdict

TEMPLATE = "certificate.html.j2"
MEANING = {
    Verdict.GO: "Every required check passed, and what serves now is proven to be the candidate.",
    Verdict.NO_GO: "The candidate failed by its own doing.",
    Verdict.INCONCLUSIVE: "Nothing was established for or against the candidate.",
    Verdict.UNSAFE: "It is not proven that what serves now is what should. Page someone.",
}
BECAUSE, GATES, FAULTS, POINTS, SEEN = 5, 6, 5, 14, 12  # lines of each that fit on the page


@dataclass(frozen=True)
class Objective:
    """A gate as a line of the page: all texts."""

    name: str
    required: bool
    limit: str
    observed: str
    requests: str
    share: str
    bound: str
    allowed: str
    outcome: str


@dataclass(frozen=True)
class Plot:
    """A load as pictures (latency over time; its distribution), or why there are none."""

    title: str
    svg: str
    ecdf: str = ""
    why_not: str = ""


def certificate_html(story: Story, folder: Path) -> str:
    """The page. folder: the run's, for the samples of the plots; what is not there any more is said in the plot's place."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    env = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return env.get_template(TEMPLATE).render(**_page(story, folder))


def _page(story: Story, folder: Path) -> dict[str, Any]:
    because = _because(story)
    crowded = len(because) > 3
    faults = sorted(story.faults, key=lambda one: -SEVERITY[one.outcome])
    shown = min(len(faults), FAULTS - 3 if crowded and story.loads else FAULTS)
    gates = sorted(story.gates.values(), key=lambda one: -SEVERITY[_outcome(one, story)])
    return {
        "story": story,
        "opened": story.opened,
        "verdict": story.verdict,
        "meaning": _meaning(story),
        "because": because[: BECAUSE - crowded],
        "because_more": max(len(because) - BECAUSE + crowded, 0),
        "facts": _facts(story),
        "objectives": [_objective(one, story) for one in gates[: GATES - crowded]],
        "objectives_more": max(len(gates) - GATES + crowded, 0),
        "confidence": _confidence(gates),
        "flow": "; ".join([*(words(one.flow) for one in list(story.flows.values())[:1]), *_dependence(gates)]),
        "clients": [_client(one) for one in story.loads.values()][:2],
        "plots": _plots(story, folder),
        "seen": _seen(story),
        "crowded": crowded,
        "faults": faults[:shown],
        "faults_more": len(faults) - shown,
        "points": story.proof[:POINTS],
        "points_more": max(len(story.proof) - POINTS, 0),
        "tally": _tally(story),
        "Outcome": Outcome,
        "Proof": Proof,
    }


def _meaning(story: Story) -> str:
    if story.owner and story.verdict is Verdict.INCONCLUSIVE:
        return f"{left_to(story.owner)}."
    return f"{MEANING[story.verdict]}{_end(story)}"


def _end(story: Story) -> str:
    unproven = any(one.result is Proof.UNPROVEN for one in story.proof) or not story.proof
    if unproven or story.verdict in (Verdict.GO, Verdict.UNSAFE):
        return ""
    return (
        " What was there before is back, and that is proven."
        if story.state is State.RESTORED
        else " Nothing of the run is left, and that is proven."
    )


def _because(story: Story) -> Sequence[str]:
    """Why, without the last line on the end, which the sentence before it says already."""
    return () if story.verdict is Verdict.GO else story.because if story.verdict is Verdict.UNSAFE else story.because[:-1]


def _facts(story: Story) -> list[tuple[str, str]]:
    opened = story.opened
    if opened is None:
        return [("record", "broken before its first line could be read")]
    at = f"{moment(story.began):%Y-%m-%d %H:%M:%S} UTC, {_duration(story.seconds)}"
    took = f"{back.restored_s:.1f} s, settled after {back.settled_s:.1f} s" if (back := story.restored) else "not needed"
    before = [f"{of} {one.restored_s:.1f} s" for of, one in story.ways_back.items() if of != "end"]
    return [
        ("candidate", opened.candidate_digest),
        ("baseline", opened.baseline),
        ("stand", opened.stand),
        ("accelerators", opened.accelerators),
        ("way back", story.way_back),
        ("users", _users(story, opened.users)),
        ("certified by", opened.certified),
        ("mode", f"{opened.mode}, scenario sha256 {opened.scenario_digest.removeprefix('sha256:')[:16]}"),
        ("ran", at),
        ("way back took", "; ".join([took, *before])),
        *([("served meanwhile", str(back.served).removeprefix("meanwhile "))] if back and back.served else []),
    ]


def _users(story: Story, said: str) -> str:
    """`live, 812 requests counted by their pods, 130 of them hotfire's`, or that nobody counts them."""
    told = [_counted(one) for one in story.counted.values()]
    uncounted = [one.planned.param for one in story.outcomes.values() if one.reason is Reason.NOT_COUNTED]
    told += [f"not guarded at {', '.join(uncounted)}: nothing of what decides is counted"] if uncounted else []
    return "; ".join([said, *told])


def _counted(one: Counted) -> str:
    worst = max(zip(one.bad, (part["slo"] for part in one.parts), strict=True), default=(0, ""))
    said = f"{one.requests:,} requests counted by {one.by}, {one.ours:,} of them hotfire's, {worst[0]:,} bad"
    said += f" under {worst[1]}" if worst[0] else ""
    return f"{said}; not counted: {', '.join(one.uncounted)}" if one.uncounted else said


def _objective(event: Gated, story: Story) -> Objective:
    gate, found = event.gate, event.judgement
    metric, share = gate.get("metric"), gate.get("metric") in SHARES
    one = story.outcomes.get(event.check)
    failed = found.get("outcome") == Outcome.FAIL
    bound = f"at least {_percent(found.get('lower'))}" if failed else f"at most {_percent(found.get('upper'))}"
    alpha_free = gate.get("confidence") in (None, "none")
    return Objective(
        name=f"{metric} {gate.get('of', 'share') if share else gate.get('statistic')}",
        required=one.decides if one else False,
        limit=f"{'>' if metric == 'goodput' else '<'} {_percent(gate.get('limit')) if share else _seconds(gate.get('limit'))}",
        observed=_percent(found.get("observed")) if share else _seconds(found.get("observed")),
        requests=str(found.get("n", "")),
        share=_percent(found.get("share")),
        bound="none stated" if alpha_free else bound,
        allowed=_percent(found.get("limit")),
        outcome=_outcome(event, story).value,
    )


def _outcome(event: Gated, story: Story) -> Outcome:
    one = story.outcomes.get(event.check)
    return one.outcome if one else Outcome(event.judgement.get("outcome") or Outcome.INVALID)


def _confidence(gates: Sequence[Gated]) -> str:
    levels = sorted(
        {f"{100 * one.gate['confidence']:.10g} %" for one in gates if isinstance(one.gate.get("confidence"), float)}
    )
    kinds = sorted({str(one.gate.get("arrivals", "")).split(" ")[0] for one in gates})
    label = {
        "spaced": "one request at a time: unloaded latency",
        "poisson": "open loop, Poisson arrivals",
        "constant": "open loop",
    }
    said = [label.get(kind, kind) for kind in kinds if kind]
    within = {f"{metric} < {_seconds(limit)}" for one in gates for metric, limit in one.gate.get("within", {}).items()}
    good = [f"goodput within {' and '.join(sorted(within))}"] if within else []
    return ", ".join([*(f"{level} one-sided, over all looks" for level in levels), *said, *good])


def _dependence(gates: Sequence[Gated]) -> Iterator[str]:
    """How much requests told of each other, where most: what the stated confidence already allows for."""
    judged = [one.judgement for one in gates if one.judgement.get("tau")]
    if judged:
        worst = max(judged, key=lambda found: float(found["tau"]))
        worth = f"{worst['n']} are worth {float(worst['effective']):.0f} independent ones"
        yield f"autocorrelation time {float(worst['tau']):.3g} (in requests): {worth}"


def _client(load: Loaded) -> str:
    late = (load.client.get("figures") or {}).get("dispatch_p99_ms")
    calibration = load.client.get("calibration") or {}
    said = [f"{load.name}{f' to {load.to}' if load.to else ''}: {load.arrivals}"]
    said.append("client sound" if load.client.get("sound") else f"client UNSOUND: {load.client.get('cause', '')}")
    said += [f"sent at most {late:.1f} ms late (p99)"] if late is not None else []
    said += [f"its first {load.warm_up:,} requests are warm-up and not counted"] if load.warm_up else []
    if "needs" in calibration:
        said.append(f"needs {calibration['needs']:.0%} of a CPU, can carry {calibration['carries']:.0%}")
    return ", ".join([*said, _served(load.served_by)] if load.served_by else said)


def _served(by: Mapping[str, Any]) -> str:
    """`served by 2 pods (response header x-served-by: 61 + 59)`, and which of them was worst, where that shows."""
    pods = by.get("pods") or {}
    if not pods:
        return f"served by {by['how'] if str(by['how']).startswith('unknown') else 'unknown'}"
    said = f"served by {len(pods)} pod{'s' * (len(pods) > 1)} ({by['how']}: {' + '.join(f'{n:,.0f}' for n in pods.values())})"
    each = sorted((by.get("each") or {}).items(), key=lambda one: (-float(one[1]["e2e_p95_s"]), -one[1]["failed"]))
    if len(each) < 2:
        return said
    (name, worst), (_, best) = each[0], each[-1]
    return (
        f"{said}, p95 {_seconds(best['e2e_p95_s'])} to {_seconds(worst['e2e_p95_s'])}, worst {name}, {worst['failed']} failed"
    )


def _plots(story: Story, folder: Path) -> list[Plot]:
    """The load that the objectives were judged on, and the traffic beneath the faults."""
    out: list[Plot] = []
    tall = 148 - 11 * min(len(_because(story)), BECAUSE + 1) - 10 * min(len(story.faults), FAULTS + 1)
    heights = (max(tall, 68), max(tall - 20, 54))  # what the page has left for them
    for load in list(story.loads.values())[:2]:
        metric, limit, share, requests = _drawn(story, load.name)
        marks = [(mark.name, mark.load_time) for mark in story.marks.get(load.name, []) if mark.load_time is not None]
        title = (
            f"{load.name}: {metric} of each request over the time at which it was due ({load.arrivals}), and its distribution"
        )
        try:
            found = samples.read(_inside(folder, load.samples), load.samples_digest)
            drawn: dict[str, Any] = {"requests": requests, "height": heights[len(out)]}
            over_time = latency_plot(found, metric, limit, marks, **drawn)
            out.append(Plot(title, over_time, ecdf_plot(found, metric, limit, share, **drawn)))
        except (HarnessError, Unjudged, OSError) as error:
            out.append(Plot(title, "", why_not=f"no picture: {getattr(error, 'message', None) or error}"))
    return out


def _drawn(story: Story, load: str) -> tuple[str, float | None, float | None, int | None]:
    """The first limit on a latency that the load was judged by: (metric, seconds, share of requests that must be within), and
    how many requests that were."""
    gates = [(one.gate, 1 - float(one.judgement["limit"])) for one in story.gates.values() if one.load == load]
    limits = [(one["metric"], float(one["limit"]), share) for one, share in gates if one.get("metric") not in SHARES]
    limits += [(metric, float(limit), share) for one, share in gates for metric, limit in one.get("within", {}).items()]
    return *(limits[0] if limits else ("e2e", None, None)), max((int(one["requests"]) for one, _ in gates), default=None)


def _seen(story: Story) -> list[tuple[str, list[str]]]:
    """What the first failed checks saw, line by line, where there is no picture that shows it."""
    failed = [one for one in story.outcomes.values() if one.outcome in (Outcome.FAIL, Outcome.INVALID) and one.details]
    return [(one.key, [line for line in one.details if line != one.message][:SEEN]) for one in failed[:2] if not story.loads]


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise HarnessError(f"{name} lies outside the run's folder")
    return path


def _tally(story: Story) -> str:
    """How many required checks came to what, and which advisory ones did not pass."""
    asked = sum(one.decides for one in story.outcomes.values())
    counts = [(story.count(outcome), outcome) for outcome in Outcome]
    advisory = [
        one for one in story.outcomes.values() if one.planned.asked and not one.decides and one.outcome is not Outcome.PASS
    ]
    noted = f"; advisory: {', '.join(f'{one.key} {one.outcome}' for one in advisory[:3])}" if advisory else ""
    return f"{asked} required checks: {', '.join(f'{count} {outcome}' for count, outcome in counts if count)}{noted}"


def _percent(value: object) -> str:
    return f"{float(value) * 100:.3g} %" if isinstance(value, int | float) else str(value if value is not None else "")


def _seconds(value: object) -> str:
    if not isinstance(value, int | float):
        return {"inf": "never", "nan": "no figure"}.get(str(value), str(value if value is not None else ""))
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"
