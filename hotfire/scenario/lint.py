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
from hotfire.gates.statistics import look_sizes
from hotfire.scenario.datafiles import no_go, read_dues, read_golden, read_prompts
from hotfire.scenario.marks import Loc
from hotfire.scenario.model import Load, Located, PullSecret, Scenario, Slo
from hotfire.scenario.nearest import nearest
from hotfire.scenario.pipeline import pipeline
from hotfire.scenario.size import (
    SLACK,
    deciding,
    feasible,
    first_look,
    first_look_s,
    least,
    least_crowd,
    needed_slots,
    span,
    warm_up,
)
from hotfire.scenario.ways import carriers, live, reach
from hotfire.words import Gate, Mode

Finding = tuple[Loc, str]
EMBEDDING_RUNTIMES = ("llamacpp", "ollama", "tiny", "vllm")  # the contracts know; a test holds the two together
TAINT = re.compile(r"[^=:\s]+(=[^=:\s]*)?:(NoSchedule|PreferNoSchedule|NoExecute)")
LEAST_LEASE = 3.0  # seconds: a Lease counts in whole ones, and a third of it must outlast a slow API call
CLUMPED = 2.1  # squared variation of the gaps between arrivals; gamma of shape 0.5, which was simulated, has 2
OFTEN = 5  # requests in the time in which service must be back: their rest counts as outage
LEAST_CONFIDENCE = 0.5  # a bound that is wrong more often than it is right proves nothing


def lint(located: Located) -> list[str]:
    """Everything that is wrong, as `file:line:column: what, what is allowed`, in the order of the file; empty when fit."""
    found = [finding for rule in RULES for finding in rule(located.scenario, located)]
    ordered = sorted(found, key=lambda finding: _place(located, finding[0]))
    lines = [f"{located.where(*loc)}: {text}" for loc, text in ordered]
    return lines + _datafiles(located) + list(_replicas(located))


def _place(located: Located, loc: Loc) -> tuple[int, int]:
    line, column = located.where(*loc).rsplit(":", 2)[1:]
    return int(line), int(column)


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
    settle_by = scenario.rollback.settle_by or math.inf
    after = scenario.rollout.deploy_by if scenario.by_pipeline else 0.0
    if 0 < settle_by - after < (alone := first_look_s(scenario)):
        said = f"the load alone takes {span(alone)} to its first look{f' after deploy_by {after:g}s' if after else ''}"
        yield ("rollback", "settle_by"), f"settle_by {settle_by:g}s: {said}, more is expected"
    lease = scenario.lock.lease
    if lease < LEAST_LEASE or lease != int(lease):
        yield ("lock", "lease"), f"a lease of {lease:g}s, whole seconds from {LEAST_LEASE:g}s are expected"


def _load(scenario: Scenario, located: Located) -> Iterator[Finding]:
    load = scenario.load
    if load is None:
        return
    if load.requests is not None and load.for_ is not None:
        yield ("load", "for"), "requests and for both say when the first look is, one of them is expected"
    needed, peak = needed_slots(load), least_crowd(load) / (load.timeout or 1)
    if load.arrivals.open and load.slots is not None and load.slots < needed:
        sum_ = f"{SLACK:g} x {peak:g}/s x {load.timeout:g}s timeout = {needed}"
        yield ("load", "slots"), f"{load.slots} slots would close the open loop, {sum_} or more are expected"
    if load.arrivals.kind == "closed" and load.slots is not None and load.slots < needed:
        yield ("load", "slots"), f"{load.slots} slots fail what {load.arrivals.text} sends, {needed} or more are expected"
    if load.arrivals.kind == "spaced" and load.slots is not None:
        yield (
            ("load", "slots"),
            f"{load.slots} slots under {load.arrivals.text}: one request at a time is sent, it is left out here",
        )
    if load.arrivals.kind == "closed" and isinstance(load.warm_up, float):
        said = f"warm_up of {load.warm_up:g}s under {load.arrivals.text}"
        yield ("load", "warm_up"), f"{said}: it has no rate, a number of requests is expected"
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
    if load.answer_tokens is not None and None not in _own_tokens(load, located):
        yield (
            ("load", "answer_tokens"),
            f"answer_tokens: every line of {load.prompts} says its own max_tokens, it is left out here",
        )
    if load.unique and load.shared_prefix is not None:
        yield ("load", "unique"), "unique prompts share no beginning, shared_prefix or unique is expected"


def _gates(scenario: Scenario, located: Located) -> Iterator[Finding]:
    if scenario.load is None:
        return
    load = scenario.load
    drawn = load.answer_tokens.mean if load.answer_tokens else load.max_tokens
    most_tokens = max(drawn if own is None else own for own in _own_tokens(load, located))
    for index, slo in enumerate(scenario.slos):
        for key, text in _gate(slo, scenario, load, most_tokens):
            yield ("slos", index, key or slo.statistic), text


def _own_tokens(load: Load, located: Located) -> list[int | None]:
    """What each prompt says of the length of its answer, which comes first; None where it does not."""
    try:
        rows = read_prompts(located.folder / load.prompts) if load.prompts else [{}]
    except BadInput:  # said where it is read for its own sake
        rows = [{}]
    return [row.get("max_tokens") for row in rows]


def _gate(slo: Slo, scenario: Scenario, load: Load, most_tokens: float) -> Iterator[tuple[str, str]]:
    """(key, what is wrong). The first thing that makes the gate vacuous is enough."""
    share, shown = slo.bad_share, f"{slo.metric} {slo.statistic} {slo.limit.text}"
    if slo.confidence != "none" and not LEAST_CONFIDENCE <= slo.confidence < 1:
        said = "no test has it" if slo.confidence == 1 else "it proves nothing"
        yield "confidence", f"confidence of {slo.confidence:.0%}: {said}, {LEAST_CONFIDENCE:.0%} to less than 100% is expected"
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
        if metric in ("itl", "gap") and scenario.serving(load.to).api == "embeddings":
            yield key or "metric", f"{named}: an embedding is no stream of tokens, e2e is expected"
        elif metric in ("itl", "gap") and most_tokens < 2:
            yield key or "metric", f"{named}: an answer of one token has no gap, load.max_tokens of 2 or more is expected"
        if metric == "ttft" and load.arrivals.kind == "spaced" and scenario.stall.max <= limit.value < load.timeout:
            silent = f"with one request at a time stall.max of {scenario.stall.max:g}s fails what is slower than it"
            yield key, f"{named}: {silent}, a lower limit or a higher stall.max is expected"
    if slo.confidence == "none":
        if slo.gate is Gate.REQUIRED and scenario.mode is not Mode.PROMOTE:
            where = "confidence" if slo.confidence == "none" else ""
            yield where, f"{shown}: a point estimate proves nothing, `gate: advisory` or a confidence such as 95% is expected"
        fewest, most = least(slo, scenario, load) or 0, look_sizes(first_look(scenario))[-1]
        if most < fewest:
            yield "", f"{shown}: {most} requests at most, an estimate of this share needs {fewest}"
        return
    found = feasible(slo, scenario, load, first_look(scenario), deciding(scenario))
    for able, at, verb in ((found.can_pass, found.pass_at, "pass"), (found.can_fail, found.fail_at, "fail")):
        if not able:
            yield "", f"{shown}: no input can {verb} it with {found.requests[1]} requests at the last look, {_more(at, load)}"
            return


def _more(fewest: int | None, load: Load) -> str:
    """What would be enough: requests to the last look, and their time."""
    if fewest is None:
        return "no number of requests would be enough"
    first = next(count for count in range(max(1, fewest // 4), fewest + 1) if look_sizes(count)[-1] >= fewest)
    took = f" ({span(fewest * load.arrivals.period)})" if load.arrivals.period else ""
    return f"{fewest:,} are needed: `requests: {first}` or more{took}"


def _faults(scenario: Scenario, located: Located) -> Iterator[Finding]:
    for index, fault in enumerate(scenario.faults):
        period, within = scenario.load.arrivals.period if scenario.load else 0.0, fault.serving_again_within
        if within and period * OFTEN > within:
            said = f"a request every {span(period)} cannot tell when service is back within {span(within)}"
            yield ("faults", index, "serving_again_within"), f"{said}, {span(period * OFTEN)} or more is expected"
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
    folders = [(located.folder / name).resolve() for name in scenario.compare.runs]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            yield ("compare", "runs", index), f"{scenario.compare.runs[index]} is named twice, runs of their own are expected"
        elif text := no_go(located.folder / scenario.compare.runs[index] / "verdict.json"):
            yield ("compare", "runs", index), text


def _for_promote(scenario: Scenario, located: Located) -> Iterator[Finding]:
    """What another mode would accept and never look at."""
    said: list[Loc] = [("certified",), ("certified_within",), ("consent",), ("load", "live_cap")]
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
