"""How much a scenario asks for: requests, slots, seconds. Fixed beforehand, from the scenario alone."""

import math

from hotfire.gates.statistics import Feasibility, can_decide, look_sizes
from hotfire.gates.users import PATIENCE
from hotfire.scenario.model import Fault, Load, Scenario, Slo
from hotfire.words import Gate

SLACK = 1.2  # slots over what the peak rate x timeout can hold in flight
LEAST_WARM_UP, WARM_UP_SHARE, FEW = 100, 0.1, 3  # requests of an open loop that are not counted; of one that waits
LEAST_AFTER = 10  # requests due after a fault is over, whatever share of them may fail


def first_look(scenario: Scenario) -> int:
    """Requests in the window at the first look: as written, or the fewest with which every deciding gate could PASS."""
    load = scenario.load
    if load is None:
        return 0
    if load.requests is not None:
        return load.requests
    if load.for_ is not None and load.arrivals.period:
        return max(1, math.floor(load.for_ * load.arrivals.rate))
    fewest = [least(slo, scenario, load) for slo in scenario.slos]
    return max([count for count in fewest if count is not None], default=1)


def warm_up(scenario: Scenario) -> int:
    """Requests sent and not counted: all before the last level of a ramp or of steps, then as written, or by a rule fixed
    beforehand: an open loop starts on an empty target, which reads low (facts: statistics), so a tenth of the first look
    and LEAST_WARM_UP at least; FEW where requests wait for one another."""
    load = scenario.load
    if load is None:
        return 0
    asked = load.warm_up
    if isinstance(asked, float):  # seconds; lint refuses them where there is no rate
        asked = math.ceil(asked * load.arrivals.rate - 1e-9) if load.arrivals.period else FEW
    if asked is None:
        asked = max(LEAST_WARM_UP, math.ceil(WARM_UP_SHARE * first_look(scenario))) if load.arrivals.open else FEW
    return load.arrivals.lead + asked


def slots(load: Load) -> int:
    """Requests in flight at most: as written, or SLACK times what may be due within one timeout at the peak rate; what
    chance brings together is in it, since a sound target must not be found full."""
    return load.slots or max(1, math.ceil(SLACK * load.arrivals.crowd(load.timeout) - 1e-9))


def needed_slots(load: Load) -> int:
    """Fewer would close the loop for certain."""
    return load.arrivals.size if load.arrivals.kind == "closed" else math.ceil(SLACK * least_crowd(load) - 1e-9)


def least_crowd(load: Load) -> float:
    """What is due within one timeout at the peak rate, where Poisson arrivals come as they do on average."""
    arrivals = load.arrivals
    return arrivals.peak * load.timeout if arrivals.kind == "poisson" else arrivals.crowd(load.timeout)


def chance(load: Load, requests: int) -> float:
    """Seconds by which so many arrivals may be late for their rate alone: four sigma."""
    return 4 * math.sqrt(requests / min(load.arrivals.shape, 1.0)) * load.arrivals.period


def wanted(fault: Fault) -> int:
    """Requests due after the return of service without which its share of errors says nothing."""
    return max(LEAST_AFTER, math.ceil(1 / fault.errors.value - 1e-9) if fault.errors.value else LEAST_AFTER)


# -- what they decide -----------------------------------------------------------------------------------------------


def least(slo: Slo, scenario: Scenario, load: Load) -> int | None:
    """The fewest requests with which an objective could PASS; None where none would be enough."""
    if not 0 < slo.bad_share < 1:
        return None
    if slo.confidence == "none":
        return math.ceil(1 / slo.bad_share - 1e-9)
    return feasible(slo, scenario, load, 1, 1).pass_at if 0 < slo.confidence < 1 else None


def deciding(scenario: Scenario) -> int:
    """Gates that share the error budget of FAIL; an advisory one alone is judged as if it were one of them."""
    return max(1, sum(slo.gate is Gate.REQUIRED for slo in scenario.slos))


def feasible(slo: Slo, scenario: Scenario, load: Load, requests: int, gates: int) -> Feasibility:
    """What so many requests to the first look can decide."""
    confidence = float(slo.confidence) if slo.confidence != "none" else 0.95
    kind, rate = load.arrivals.kind, load.arrivals.rate
    return can_decide(
        slo.bad_share, kind, requests, rate, confidence=confidence, required_gates=gates, windows=scenario.windows
    )


# -- how long they take ---------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """2 s, 90 s, 4.2 min, 1.7 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def warm_up_s(scenario: Scenario, load: Load) -> float:
    """Seconds before the first request counts, where they are due at a rate."""
    return load.arrivals.lead_s + (warm_up(scenario) - load.arrivals.lead) * load.arrivals.period


def first_look_s(scenario: Scenario) -> float:
    """Seconds to the first look, however fast the answers are."""
    load = scenario.load
    return 0.0 if load is None else warm_up_s(scenario, load) + first_look(scenario) * load.arrivals.period


def most_s(scenario: Scenario) -> float:
    """Seconds to a GO with every bound used up; what is not bounded by the scenario is not in it."""
    bounds = [scenario.startup.ready_within, scenario.rollback.soak, _load_s(scenario)]
    bounds += [PATIENCE] * len(scenario.guarded)
    bounds += [fault.serving_again_within + _each_s(scenario) * wanted(fault) for fault in scenario.faults]
    back = scenario.rollback.within + scenario.rollback.soak + scenario.startup.ready_within
    bounds += [back] * (scenario.rollback.rehearse + scenario.drilled)
    return sum(bounds)


def _load_s(scenario: Scenario) -> float:
    """To the last look."""
    load = scenario.load
    if load is None:
        return 0.0
    last = look_sizes(first_look(scenario))[-1]
    if load.arrivals.open:
        return warm_up_s(scenario, load) + last * load.arrivals.period + load.timeout
    return (warm_up(scenario) + last) * _each_s(scenario)


def _each_s(scenario: Scenario) -> float:
    """From one request to the next, where they wait for one another as long as an objective lets them."""
    load = scenario.load
    if load is None or load.arrivals.open:
        return load.arrivals.period if load else 0.0
    means = [  # the bad ones take all they may
        (1 - slo.bad_share) * slo.latencies["e2e"].value + slo.bad_share * load.timeout
        for slo in scenario.slos
        if slo.gate is Gate.REQUIRED and "e2e" in slo.latencies
    ]
    return max(load.arrivals.period, min([load.timeout, *means])) / max(1, load.arrivals.size)
