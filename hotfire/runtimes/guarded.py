"""Which objectives users' own requests are held against, by what their runtime, or the gateway before it, counts."""

from collections.abc import Iterator
from typing import Any

from hotfire.gates.statistics import alphas
from hotfire.runtimes.gateways import counts_of
from hotfire.scenario.model import Scenario, Slo
from hotfire.scenario.serves import Serves
from hotfire.words import Gate


def guards(serves: Serves, scenario: Scenario) -> list[dict[str, Any]]:
    """The `parts` of a Counted event, empty where nobody counts any of it.

    A failed request is bad under every objective, a late one under those that limit its latency. Only objectives that decide
    are here, and the error of a wrong FAIL is split over all parts. limit_s: 0 for errors.
    """
    counts = counts_of(serves)
    found = [(slo, kind, limit_s) for slo, kind, limit_s in _asked(scenario) if counts is not None and counts.tells(kind)]
    return [
        {"slo": slo.id, "kind": kind, "limit_s": limit_s, "allowed": slo.bad_share,
         "alpha": alphas(float(slo.confidence), len(found))[1]}
        for slo, kind, limit_s in found
    ]  # fmt: skip


def uncounted(serves: Serves, scenario: Scenario) -> list[str]:
    """What of the objectives nobody counts: `errors of errors-ratio`."""
    counts = counts_of(serves)
    return [f"{kind} of {slo.id}" for slo, kind, _ in _asked(scenario) if counts is None or not counts.tells(kind)]


def _asked(scenario: Scenario) -> Iterator[tuple[Slo, str, float]]:
    """(objective, kind, limit in seconds) of all that decides."""
    for slo in scenario.slos:
        if slo.gate is Gate.REQUIRED and slo.confidence != "none":
            yield slo, "errors", 0.0
            yield from ((slo, metric, limit.value) for metric, limit in slo.latencies.items())
