"""What types cannot say: gates that no input can make fail, loads that decide nothing, names given twice. Needs no cluster.

A gate that cannot fail is worse than none: it is read as a proof (facts: F3, F4, F6, F8). So each of these is refused.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hotfire.errors import BadInput
from hotfire.gates.guard import EARLY
from hotfire.gates.statistics import LEAST_FAIL, Feasibility, can_decide, look_sizes, needs_requests
from hotfire.gates.users import PATIENCE
from hotfire.scenario.datafiles import no_go, read_dues, read_golden, read_prompts
from hotfire.scenario.marks import Loc
from hotfire.scenario.model import Load, Located, PullSecret, Scenario, Slo
from hotfire.scenario.nearest import nearest
from hotfire.scenario.pipeline import commands, pipeline
from hotfire.scenario.ways import carriers, counted, live, reach
from hotfire.words import Gate, Mode

Finding = tuple[Loc, str]
EMBEDDING_RUNTIMES = ("llamacpp", "ollama", "tiny", "vllm")  # the contracts know; a test holds the two together
TAINT = re.compile(r"[^=:\s]+(=[^=:\s]*)?:(NoSchedule|PreferNoSchedule|NoExecute)")
LEAST_LEASE = 3.0  # seconds: a Lease counts in whole ones, and a third of it must outlast a slow API call
SLACK = 1.2  # slots over what the peak rate x timeout can hold in flight
CLUMPED = 2.1  # squared variation of the gaps between arrivals; gamma of shape 0.5, which was simulated, has 2
LEAST_WARM_UP, WARM_UP_SHARE, FEW = 100, 0.1, 3  # requests of an open loop that are not counted; of one that waits
UTILISATION, HEADROOM = 0.7, 1.5  # what `plan` assumes of a candidate (facts: statistics, rule of thumb)


def lint(located: Located) -> list[str]:
    """Everything that is wrong, as `file:line:column: what, what is allowed`, in the order of the file; empty when fit."""
    found = [finding for rule in RULES for finding in rule(located.scenario, located)]
    ordered = sorted(found, key=lambda finding: _place(located, finding[0]))
    lines = [f"{located.where(*loc)}: {text}" for loc, text in ordered]
    return lines + _datafiles(located) + list(_replicas(located))


def _place(located: Located, loc: Loc) -> tuple[int, int]:
    line, column = located.where(*loc).rsplit(":", 2)[1:]
    return int(line), int(column)


def first_look(scenario: Scenario) -> int:
    """Requests in the window at the first look: as written, or the fewest with which every deciding gate could PASS."""
    load = scenario.load
    if load is None:
        return 0
    if load.requests is not None:
        return load.requests
    if load.for_ is not None and load.arrivals.period:
        return max(1, math.floor(load.for_ * load.arrivals.rate))
    least = [_least(slo, scenario, load) for slo in scenario.slos]
    return max([count for count in least if count is not None], default=1)


def warm_up(scenario: Scenario) -> int:
    """Requests sent and not counted: all before the last level of a ramp or of steps, then as written, or by a rule fixed
    beforehand: an open loop starts on an empty target, which reads low (facts: statistics), so a tenth of the first look
    and LEAST_WARM_UP at least; FEW where requests wait for one another."""
    load = scenario.load
    if load is None:
        return 0
    asked = load.warm_up
    if isinstance(asked, float):  # seconds
        asked = math.ceil(asked * load.arrivals.rate - 1e-9) if load.arrivals.period else FEW
    if asked is None:
        asked = max(LEAST_WARM_UP, math.ceil(WARM_UP_SHARE * first_look(scenario))) if load.arrivals.open else FEW
    return load.arrivals.lead + asked


def slots(load: Load) -> int:
    """Requests in flight at most: as written, or SLACK times what may be due within one timeout at the peak rate."""
    return load.slots or max(1, _needed_slots(load))


def _needed_slots(load: Load) -> int:
    crowd = load.arrivals.crowd(load.timeout)
    return math.ceil(SLACK * crowd - 1e-9) if load.arrivals.kind != "closed" else load.arrivals.size


def _least(slo: Slo, scenario: Scenario, load: Load) -> int | None:
    if not 0 < slo.bad_share < 1:
        return None
    if slo.confidence == "none":
        return math.ceil(1 / slo.bad_share - 1e-9)
    return _feasible(slo, scenario, load, 1, 1).pass_at if 0 < slo.confidence < 1 else None


def _deciding(scenario: Scenario) -> int:
    """Gates that share the error budget of FAIL; an advisory one alone is judged as if it were one of them."""
    return max(1, sum(slo.gate is Gate.REQUIRED for slo in scenario.slos))


def _feasible(slo: Slo, scenario: Scenario, load: Load, requests: int, gates: int) -> Feasibility:
    confidence = float(slo.confidence) if slo.confidence != "none" else 0.95
    kind, rate = load.arrivals.kind, load.arrivals.rate
    return can_decide(
        slo.bad_share, kind, requests, rate, confidence=confidence, required_gates=gates, windows=scenario.windows
    )


# -- rules on the scenario ------------------------------------------------------------------------------------------


def _goes_together(scenario: Scenario, located: Located) -> Iterator[Finding]:
    if scenario.load is not None and not scenario.slos:
        loc: Loc = ("slos",) if located.says("slos") else ("load",)
        yield loc, "load without slos decides nothing, at least one objective is expected"
    if scenario.load is None and scenario.slos:
        yield ("slos",), "slos without load have nothing to be judged on, load is expected"
    if scenario.load is None and located.says("stall"):
        yield ("stall",), "stall without load: nothing is in flight that could meet it, load is expected"
    if scenario.load is None and scenario.faults:
        yield ("faults",), "faults without load: no traffic would see the outage or its end, load is expected"
    if scenario.slos and all(slo.gate is Gate.ADVISORY for slo in scenario.slos):
        yield ("slos",), "slos are all advisory: nothing decides, at least one `gate: required` is expected"


def _unique(scenario: Scenario, located: Located) -> Iterator[Finding]:
    named: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("faults", "name", [fault.name for fault in scenario.faults]),
        ("slos", "metric", [slo.id for slo in scenario.slos]),
        ("secrets", "", [item.pull if isinstance(item, PullSecret) else item.id for item in scenario.secrets]),
    )
    for group, key, names in named:
        for index, name in enumerate(names):
            first = names.index(name)
            if first < index:
                loc: Loc = (group, index, key) if key else (group, index)
                yield loc, f"two {group} are {name!r}, first at {located.where(group, first)}, one is allowed"
    for key in ("workload", "service"):
        names = [serves.key if key == "workload" else serves.service for serves in scenario.candidate.serves]
        for index, name in enumerate(names):
            if names.index(name) < index:
                where = located.where("candidate", "serves", names.index(name), key)
                yield ("candidate", "serves", index, key), f"{key} {name!r} serves twice, first at {where}, one is allowed"


def _positive(scenario: Scenario, located: Located) -> Iterator[Finding]:
    durations: list[tuple[Loc, float | None]] = [
        (("reach", "max_age"), scenario.reach.max_age),
        (("scheduling", "within"), scenario.scheduling.within if scenario.scheduling else None),
        (("startup", "ready_within"), scenario.startup.ready_within),
        (("behaviour", "timeout"), scenario.behaviour.timeout),
        (("load", "timeout"), scenario.load.timeout if scenario.load else None),
        (("load", "for"), scenario.load.for_ if scenario.load else None),
        (("stall", "max"), scenario.stall.max),
        (("rollback", "within"), scenario.rollback.within),
        (("rollback", "settle_by"), scenario.rollback.settle_by),
        (("rollout", "deploy_by"), scenario.rollout.deploy_by),
        *((("faults", at, "serving_again_within"), item.serving_again_within) for at, item in enumerate(scenario.faults)),
    ]
    for loc, value in durations:
        if value is not None and value <= 0:
            yield loc, f"{loc[-1]} of 0s: nothing can be that fast, more than 0s is expected"
    lease = scenario.lock.lease
    if lease < LEAST_LEASE or lease != int(lease):
        yield ("lock", "lease"), f"a lease of {lease:g}s, whole seconds from {LEAST_LEASE:g}s are expected"


def _load(scenario: Scenario, located: Located) -> Iterator[Finding]:
    load = scenario.load
    if load is None:
        return
    if load.requests is not None and load.for_ is not None:
        yield ("load", "for"), "requests and for both say when the first look is, one of them is expected"
    needed, peak = _needed_slots(load), load.arrivals.crowd(load.timeout) / (load.timeout or 1)
    if load.arrivals.open and load.slots is not None and load.slots < needed:
        sum_ = f"{SLACK:g} x {peak:g}/s x {load.timeout:g}s timeout = {needed}"
        yield ("load", "slots"), f"{load.slots} slots would close the open loop, {sum_} or more are expected"
    if load.arrivals.kind == "closed" and load.slots is not None and load.slots < needed:
        yield ("load", "slots"), f"{load.slots} slots fail what {load.arrivals.text} sends, {needed} or more are expected"
    yield from carriers(scenario, load, located)
    yield from live(scenario, load)
    yield from _lengths(load, located)
    if load.arrivals.kind == "closed":
        yield from _closed(scenario, load)
    if _clumped(load):
        yield from _ungated(scenario, load)
    if load.arrivals.dues:
        asked = warm_up(scenario) + look_sizes(first_look(scenario))[-1]
        if asked > len(load.arrivals.dues):
            said = f"{load.arrivals.file} holds {len(load.arrivals.dues):,} arrivals"
            yield ("load", "arrivals"), f"{said}, {asked:,} are expected: warm-up and four times the first look"
    if 0 < load.timeout <= scenario.stall.max:
        loc: Loc = ("stall", "max") if located.says("stall", "max") else ("load", "timeout")
        limit, timeout = f"{scenario.stall.max:g}s", f"{load.timeout:g}s"
        yield loc, f"no silence can fail it: requests end at the timeout of {timeout}, stall.max is {limit}, less is expected"


def _closed(scenario: Scenario, load: Load) -> Iterator[Finding]:
    """A closed loop waits for its target, so no latency of it is true and no rate is asked for (facts: load 0.1)."""
    if load.requests is None:
        yield ("load", "arrivals"), f"{load.arrivals.text} has no rate: `requests` to the first look are expected"
    for index, slo in enumerate(scenario.slos):
        if slo.metric != "errors" and slo.gate is Gate.REQUIRED:
            said = f"{slo.metric} under {load.arrivals.text}: a closed loop hides every stall"
            yield ("slos", index, "metric"), f"{said}, an open loop or `gate: advisory` is expected"
    if scenario.faults:
        yield ("faults",), f"faults under {load.arrivals.text}: it stops when the target does, an open loop is expected"


def _clumped(load: Load) -> bool:
    """Arrivals that come in clumps beyond what the rule for rated loads was simulated with (bench/worlds.py): bursts of 20
    made it pass wrongly in 9 % of runs at utilisation 0.9."""
    dues = load.arrivals.dues
    gaps = [after - before for before, after in itertools.pairwise(dues)]
    mean = sum(gaps) / len(gaps) if gaps else 0.0
    spread = sum((gap - mean) ** 2 for gap in gaps) / len(gaps) if gaps else 0.0
    return load.arrivals.kind == "bursts" or spread > CLUMPED * mean * mean


def _ungated(scenario: Scenario, load: Load) -> Iterator[Finding]:
    for index, slo in enumerate(scenario.slos):
        if slo.gate is Gate.REQUIRED and slo.confidence != "none":
            said = f"{slo.metric} under {load.arrivals.text}: no bound holds for such arrivals"
            yield ("slos", index, "metric"), f"{said}, less clumped ones or `gate: advisory` are expected"


def _lengths(load: Load, located: Located) -> Iterator[Finding]:
    if load.prompts is not None and load.prompt_words is not None:
        yield ("load", "prompt_words"), "prompts and prompt_words both say what is asked, one of them is expected"
    if load.answer_tokens is not None and located.says("load", "max_tokens"):
        yield ("load", "max_tokens"), "max_tokens and answer_tokens both say how much is asked for, one of them is expected"
    if load.unique and load.shared_prefix is not None:
        yield ("load", "unique"), "unique prompts share no beginning, shared_prefix or unique is expected"


def _gates(scenario: Scenario, located: Located) -> Iterator[Finding]:
    for index, slo in enumerate(scenario.slos):
        if scenario.load is not None:
            for key, text in _gate(slo, scenario, scenario.load):
                yield ("slos", index, key or slo.statistic), text


def _gate(slo: Slo, scenario: Scenario, load: Load) -> Iterator[tuple[str, str]]:
    """(key, what is wrong). The first thing that makes the gate vacuous is enough."""
    share, shown = slo.bad_share, f"{slo.metric} {slo.statistic} {slo.limit.text}"
    if slo.confidence != "none" and not 0 < slo.confidence < 1:
        yield "confidence", f"confidence of {slo.confidence:.0%}: no test has it, more than 0% and less than 100% is expected"
        return
    if share <= 0 or any(limit.value <= 0 for limit in slo.latencies.values()):
        wanted = "a limit above 0" if share > 0 or not slo.within else "a share below 100%"
        yield ("within" if slo.within and share > 0 else ""), f"{shown}: no input can pass it, {wanted} is expected"
        return
    if share >= 1:
        wanted = "above 0%" if slo.metric == "goodput" else "below 100%"
        yield "", f"{shown}: no input can fail it, a share {wanted} is expected"
        return
    for metric, limit in slo.latencies.items():
        named, key = f"{metric} {limit.text}" if slo.within else shown, "within" if slo.within else ""
        if limit.value >= load.timeout:
            said = f"requests end at the timeout of {load.timeout:g}s, a lower limit is expected"
            yield key, f"{named}: no answer can fail it, {said}"
        if metric in ("itl", "gap") and (load.answer_tokens.mean if load.answer_tokens else load.max_tokens) < 2:
            yield key or "metric", f"{named}: an answer of one token has no gap, load.max_tokens of 2 or more is expected"
    if slo.confidence == "none":
        if slo.gate is Gate.REQUIRED and scenario.mode is not Mode.PROMOTE:
            where = "confidence" if slo.confidence == "none" else ""
            yield where, f"{shown}: a point estimate proves nothing, `gate: advisory` or a confidence such as 95% is expected"
        least, most = _least(slo, scenario, load) or 0, look_sizes(first_look(scenario))[-1]
        if most < least:
            yield "", f"{shown}: {most} requests at most, an estimate of this share needs {least}"
        return
    found = _feasible(slo, scenario, load, first_look(scenario), _deciding(scenario))
    for able, at, verb in ((found.can_pass, found.pass_at, "pass"), (found.can_fail, found.fail_at, "fail")):
        if not able:
            yield "", f"{shown}: no input can {verb} it with {found.requests[1]} requests at the last look, {_more(at, load)}"
            return


def _more(least: int | None, load: Load) -> str:
    """What would be enough: requests to the last look, and their time."""
    if least is None:
        return "no number of requests would be enough"
    first = next(count for count in range(max(1, least // 4), least + 1) if look_sizes(count)[-1] >= least)
    return f"{least:,} are needed: `requests: {first}` or more ({span(least / load.arrivals.rate)})"


def _faults(scenario: Scenario, located: Located) -> Iterator[Finding]:
    for index, fault in enumerate(scenario.faults):
        if fault.errors.value >= 1:
            yield (
                ("faults", index, "errors"),
                f"errors {fault.errors.text}: no input can fail it, a share below 100% is expected",
            )


def _mode(scenario: Scenario, located: Located) -> Iterator[Finding]:
    if scenario.mode is not Mode.PROMOTE:
        if located.says("rollback", "drill"):
            yield ("rollback", "drill"), f"every {scenario.mode} ends with the drill: it is left out here, drill is for promote"
        yield from _for_promote(scenario, located)
        return
    if scenario.users == "live" and not located.says("certified"):
        yield ("mode",), "promote needs `certified: PATH/verdict.json`, or `certified: none`, which the certificate prints"
    if scenario.keep:
        yield ("keep",), "keep is for certify: promote ends exactly old or exactly new"
    if scenario.stand.create:
        yield ("stand", "create"), "create is for certify: promote goes to the namespace that serves"
    if scenario.certified != "none":
        text = no_go(located.folder / scenario.certified)
        if text:
            yield ("certified",), text


def _scheduling(scenario: Scenario, located: Located) -> Iterator[Finding]:
    if scenario.scheduling is None:
        return
    for index, taint in enumerate(scenario.scheduling.tolerates):
        if not TAINT.fullmatch(taint):
            loc: Loc = ("scheduling", "tolerates", index)
            yield loc, f"{taint!r} is no taint, KEY=VALUE:NoSchedule, :PreferNoSchedule or :NoExecute is expected"
    for name, count in scenario.scheduling.devices.items():
        if count < 1:
            yield ("scheduling", "devices", name), f"{count} of {name}, 1 or more is expected"


def _serves(scenario: Scenario, located: Located) -> Iterator[Finding]:
    for index, serves in enumerate(scenario.candidate.serves):
        if serves.api == "embeddings" and serves.runtime not in EMBEDDING_RUNTIMES:
            text = f"{serves.runtime} has no embedding API, one of {', '.join(EMBEDDING_RUNTIMES)} is expected"
            yield ("candidate", "serves", index, "api"), text
    services = list(dict.fromkeys(serves.service for serves in scenario.candidate.serves))
    load = scenario.load
    named: list[tuple[Loc, str | None]] = [(("faults", index, "at"), fault.at) for index, fault in enumerate(scenario.faults)]
    for loc, name in [*named, (("load", "to"), load.to if load else None)]:
        if name is not None and name not in services:
            yield loc, f"{loc[0]}.{loc[-1]}: {name!r} is no Service of candidate.serves, {nearest(name, services)}"
    if len(services) > 1 and load is not None and load.to is None:
        yield ("load",), f"load: `to:` is missing, one of {', '.join(services)} is expected: one load goes to one API"


def _compare(scenario: Scenario, located: Located) -> Iterator[Finding]:
    if scenario.compare is None:
        return
    if not scenario.compared:
        yield ("compare",), "compare without a percentile in slos has nothing to compare, a latency objective is expected"
    if scenario.compare.margin <= 0:
        yield ("compare", "margin"), "margin of 0%: an equal candidate cannot pass it, more than 0% is expected"
    for index, name in enumerate(scenario.compare.runs):
        if text := no_go(located.folder / name / "verdict.json"):
            yield ("compare", "runs", index), text


def _for_promote(scenario: Scenario, located: Located) -> Iterator[Finding]:
    """What another mode would accept and never look at."""
    said: list[Loc] = [("certified",), ("consent",), ("load", "live_cap")]
    said += [("candidate", "serves", at, "counted_by") for at in range(len(scenario.candidate.serves))]
    for loc in said:
        if located.says(*loc):
            yield loc, f"{loc[-1]} is for promote: nothing of it holds in {scenario.mode}, it is left out here"


RULES: tuple[Callable[[Scenario, Located], Iterator[Finding]], ...] = (
    _goes_together, _unique, _positive, _load, _gates, _faults, _mode, pipeline, reach, _scheduling, _serves, _compare,
)  # fmt: skip


# -- the files beside it --------------------------------------------------------------------------------------------


def _datafiles(located: Located) -> list[str]:
    named: tuple[tuple[Loc, str | None, Callable[[Path], object]], ...] = (
        (("behaviour", "golden"), located.scenario.behaviour.golden, read_golden),
        (("load", "prompts"), located.scenario.load.prompts if located.scenario.load else None, read_prompts),
        (("load", "arrivals"), located.scenario.load.arrivals.file or None if located.scenario.load else None, read_dues),
    )
    lines: list[str] = []
    for loc, name, read in named:
        if name is None:
            continue
        if not (located.folder / name).is_file():
            lines.append(f"{located.where(*loc)}: {located.folder / name} is not there, a JSONL file is expected")
            continue
        try:
            read(located.folder / name)
        except BadInput as bad:
            lines += bad.lines
    return lines


def _replicas(located: Located) -> Iterator[str]:
    served = {(serves.kind, serves.name) for serves in located.scenario.candidate.serves}
    for item, source in zip(located.objects, located.sources, strict=False):
        data: Any = item
        if (data["kind"], data["metadata"]["name"]) in served and data["spec"].get("replicas") == 0:
            name = f"{data['kind']} {data['metadata']['name']}"
            yield f"{source}: {name} asks for 0 replicas and serves nothing, 1 or more is expected"


# -- plan -----------------------------------------------------------------------------------------------------------


def plan(located: Located) -> list[str]:
    """What the scenario's load can decide, with how many requests and how long, then how long the rest may take."""
    scenario, load = located.scenario, located.scenario.load
    lines = commands(scenario)
    if load is not None:
        sizes = look_sizes(first_look(scenario))
        rate = load.arrivals.rate
        looks = f"looks at {', '.join(f'{size:,}' for size in sizes)} requests"
        spans = f": {span(sizes[0] / rate)} to {span(sizes[-1] / rate)}" if load.arrivals.period else ""
        lines.append(f"load: {load.arrivals.text}, {looks}{spans}")
        if load.arrivals.kind == "spaced":
            lines.append("      spaced: one request at a time, this measures unloaded latency")
        if load.arrivals.kind == "closed":
            lines.append("      closed: for capacity, no latency of it is true and none is gated")
        if load.arrivals.open:
            lines.append(_warming(scenario, load))
            lines.append(f"      burn guard: from {EARLY} requests it may end at once, only to fail an objective beyond doubt")
        if scenario.windows > 1:
            held = "to pass, an objective needs its bound on all of them and no more bad in any than allowed"
            lines.append(f"      {scenario.windows} windows of {sizes[0] // scenario.windows:,} requests and more: {held}")
        lines += _asking(load)
        lines += [_decides(slo, scenario, load) for slo in scenario.slos]
    if (against := scenario.compare) is not None:
        most = f"at most {against.margin:.0%} slower than {len(against.runs)} earlier runs"
        lines.append(f"  each percentile: {most}, their noise allowed for")
    if any(map(counted, scenario.guarded)):
        lines.append(f"users: {LEAST_FAIL} of their own requests to an API must be counted, waited for up to {span(PATIENCE)}")
    for fault in scenario.faults:
        asked = "" if scenario.permits(fault.family) else f", NOT_RUN: promote without consent: [{fault.family}]"
        lines.append(f"fault {fault.name}: {fault.family}, serving again within {span(fault.serving_again_within)}{asked}")
    if scenario.capped is not None:
        lines.append(f"beside users: at most {scenario.capped.live_cap.text}{' of what they ask' * scenario.capped_by_users}")
    if load is not None and not scenario.permits("load"):
        lines.append("load: NOT_RUN: promote without consent: [load]")
    lines.append(f"way back: within {span(scenario.rollback.within)}, watched for {span(scenario.rollback.soak)} after")
    for what, when, gone in (("rehearse", "load", scenario.rollback.rehearse), ("drill", "end", scenario.drilled)):
        without = "" if scenario.permits(what) else f", NOT_RUN: promote without consent: [{what}]"
        lines += [f"{what} it before the {when}: back, and there once more{without}"] * gone
    return [*lines, f"at most about {span(most_s(scenario))} to a GO, with every bound used up"]


def most_s(scenario: Scenario) -> float:
    """Seconds to a GO with every bound used up; what is not bounded by the scenario is not in it."""
    bounds = [scenario.startup.ready_within, *(fault.serving_again_within for fault in scenario.faults), scenario.rollback.soak]
    back = scenario.rollback.within + scenario.rollback.soak + scenario.startup.ready_within
    bounds += [back] * (scenario.rollback.rehearse + scenario.drilled)
    if (load := scenario.load) is not None:
        bounds.append(look_sizes(first_look(scenario))[-1] / load.arrivals.rate + load.arrivals.lead_s)
    return sum(bounds)


def _warming(scenario: Scenario, load: Load) -> str:
    warm, arrivals = warm_up(scenario), load.arrivals
    seconds = arrivals.lead_s + (warm - arrivals.lead) / arrivals.rate
    level = f", {arrivals.lead:,} of them before the last level" if arrivals.lead else ""
    return f"      warm-up: {warm:,} requests ({span(seconds)}) are sent and not counted{level}; {slots(load):,} slots"


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
    rate, shown = load.arrivals.rate, f"  {slo.metric} {slo.statistic} {slo.limit.text} ({slo.gate}"
    if slo.confidence == "none":
        return f"{shown}, point estimate): needs {_least(slo, scenario, load)} requests, proves nothing"
    found = _feasible(slo, scenario, load, first_look(scenario), _deciding(scenario))
    if not (found.can_pass and found.can_fail):
        return f"{shown}, {slo.confidence:.0%}): cannot decide, see `hotfire lint`"
    easy, hard = needs_requests(
        slo.bad_share, load.arrivals.kind, confidence=slo.confidence, headroom=HEADROOM, utilisation=UTILISATION
    )
    can = f"can pass from {found.pass_at:,} requests ({span((found.pass_at or 0) / rate)}), fail from {found.fail_at:,}"
    if load.arrivals.kind == "spaced":
        return f"{shown}, {slo.confidence:.0%}): {can}; with two bad passes from {hard:,}"
    said = [f"{count:,} ({span(count / rate)})" if count else "more than 50,000" for count in (easy, hard)]
    assumed = f"at {UTILISATION:g} of capacity with {HEADROOM:g}x headroom"
    return f"{shown}, {slo.confidence:.0%}): {can}; a sound candidate {assumed} needs {said[0]} to {said[1]}"


def span(seconds: float) -> str:
    """2 s, 90 s, 4.2 min, 1.7 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
