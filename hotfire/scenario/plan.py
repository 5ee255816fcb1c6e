"""What `hotfire plan` says: what the scenario's load can decide, with how many requests and how long, then how long the rest
may take. Needs no cluster."""

from collections.abc import Iterator

from hotfire.gates.statistics import LEAST_FAIL, look_sizes, needs_requests
from hotfire.gates.users import PATIENCE
from hotfire.scenario.model import Load, Located, Scenario, Slo
from hotfire.scenario.pipeline import commands
from hotfire.scenario.size import deciding, feasible, first_look, least, most_s, slots, span, wanted, warm_up, warm_up_s
from hotfire.scenario.ways import counted

UTILISATION, HEADROOM = 0.7, 1.5  # what is assumed of a candidate (facts: statistics, rule of thumb)


def plan(located: Located) -> list[str]:
    """Line by line."""
    scenario, load = located.scenario, located.scenario.load
    lines = commands(scenario)
    if load is not None:
        lines += [*_load(scenario, load), *(_decides(slo, scenario, load) for slo in scenario.slos)]
    if (against := scenario.compare) is not None:
        most = f"at most {against.margin:.0%} slower than {len(against.runs)} earlier runs"
        lines.append(f"  each percentile: {most}, their noise allowed for")
    if any(map(counted, scenario.guarded)):
        lines.append(f"users: {LEAST_FAIL} of their own requests to an API must be counted, waited for up to {span(PATIENCE)}")
    for fault in scenario.faults:
        asked = "" if scenario.permits(fault.family) else f", NOT_RUN: promote without consent: [{fault.family}]"
        again = f"serving again within {span(fault.serving_again_within)}, judged on {wanted(fault):,} requests after it"
        lines.append(f"fault {fault.name}: {fault.family}, {again}{asked}")
    if scenario.capped is not None:
        lines.append(f"beside users: at most {scenario.capped.live_cap.text}{' of what they ask' * scenario.capped_by_users}")
    if load is not None and not scenario.permits("load"):
        lines.append("load: NOT_RUN: promote without consent: [load]")
    lines.append(f"way back: within {span(scenario.rollback.within)}, watched for {span(scenario.rollback.soak)} after")
    for what, when, gone in (("rehearse", "load", scenario.rollback.rehearse), ("drill", "end", scenario.drilled)):
        without = "" if scenario.permits(what) else f", NOT_RUN: promote without consent: [{what}]"
        lines += [f"{what} it before the {when}: back, and there once more{without}"] * gone
    return [*lines, f"at most about {span(most_s(scenario))} to a GO, with every bound used up"]


def _load(scenario: Scenario, load: Load) -> Iterator[str]:
    sizes, kind = look_sizes(first_look(scenario)), load.arrivals.kind
    took = f": {span(sizes[0] * load.arrivals.period)} to {span(sizes[-1] * load.arrivals.period)}" if kind != "closed" else ""
    yield f"load: {load.arrivals.text}, looks at {', '.join(f'{size:,}' for size in sizes)} requests{took}"
    if kind == "spaced":
        yield "      spaced: one request at a time, this measures unloaded latency"
    if kind == "closed":
        yield "      closed: for capacity, no latency of it is true and none is gated"
    if load.arrivals.open:
        lead = load.arrivals.lead
        level = f", {lead:,} of them before the last level" if lead else ""
        warm = f"{warm_up(scenario):,} requests ({span(warm_up_s(scenario, load))})"
        yield f"      warm-up: {warm} are sent and not counted{level}; {slots(load):,} slots"
    since = "at any request" if kind == "spaced" else f"from {LEAST_FAIL} requests"
    yield f"      burn guard: {since} it may end at once, only to fail an objective beyond doubt"
    if scenario.windows > 1:
        held = "to pass, an objective needs its bound on all of them and no more bad in any than allowed"
        yield f"      {scenario.windows} windows of {sizes[0] // scenario.windows:,} requests and more: {held}"
    yield from _asking(load)


def _asking(load: Load) -> Iterator[str]:
    """What is asked, where that says more than the prompts themselves."""
    said = []
    if load.prompt_words:
        said.append(f"made-up prompts of {load.prompt_words.text} words")
    if load.shared_prefix:
        said.append(
            f"{load.shared_prefix.groups} beginnings of {load.shared_prefix.words} words shared: a prefix cache can hit"
        )
    if load.unique:
        said.append("each prompt begins with a text of its own: no prefix cache can hit")
    if load.answer_tokens:
        said.append(f"answers of {load.answer_tokens.text} tokens")
    if said:
        yield f"      {'; '.join(said)}"


def _decides(slo: Slo, scenario: Scenario, load: Load) -> str:
    period, shown = load.arrivals.period, f"  {slo.metric} {slo.statistic} {slo.limit.text} ({slo.gate}"
    if slo.confidence == "none":
        return f"{shown}, point estimate): needs {least(slo, scenario, load)} requests, proves nothing"
    shown += f", {100 * slo.confidence:.10g}%)"
    found = feasible(slo, scenario, load, first_look(scenario), deciding(scenario))
    if not (found.can_pass and found.can_fail):
        return f"{shown}: cannot decide, see `hotfire lint`"
    can = f"can pass from {_so_many(found.pass_at, period)}, fail from {found.fail_at:,}"
    if load.arrivals.kind == "closed":
        return f"{shown}: {can}"
    easy, hard = needs_requests(
        slo.bad_share, load.arrivals.kind, confidence=slo.confidence, headroom=HEADROOM, utilisation=UTILISATION
    )
    if load.arrivals.kind == "spaced":
        return f"{shown}: {can}; with two bad passes from {hard:,}"
    said = [_so_many(count, period, "") if count else "more than 50,000" for count in (easy, hard)]
    assumed = f"at {UTILISATION:g} of capacity with {HEADROOM:g}x headroom"
    last = look_sizes(first_look(scenario))[-1]
    enough = f", `requests: {-(-easy // 4)}` is enough for the easiest" if easy else ""
    short = f": more than the {last:,} of the last look{enough}" if easy is None or easy > last else ""
    return f"{shown}: {can}; a sound candidate {assumed} needs {said[0]} to {said[1]}{short}"


def _so_many(count: int | None, period: float, what: str = " requests") -> str:
    return f"{count or 0:,}{what}" + (f" ({span((count or 0) * period)})" if period else "")
