"""Who served a load: by per-pod slices, by a response header, by the pods' own counters, because there was one pod alone, or
unknown."""

import math
from contextlib import suppress
from typing import Any

import numpy as np

from hotfire.gates.statistics import percentile
from hotfire.kube.client import ApiError
from hotfire.load.samples import Samples
from hotfire.plugin.run import Run
from hotfire.rollout.metrics import page
from hotfire.rollout.population import serving
from hotfire.runtimes import contract_of
from hotfire.runtimes.counters import Series, total
from hotfire.scenario.serves import Serves

MOST_PODS = 64  # a header with more values names requests, not pods


class ServedBy:
    """Made just before a load, asked just after it."""

    def __init__(self, run: Run, serves: Serves, *, slices: bool = False) -> None:
        self.run, self.serves, self.slices = run, serves, slices
        self._before = self._counters()

    def told(self, samples: Samples, requests: int | None = None) -> dict[str, Any]:
        """{"how": what it rests on, "pods": {name: requests, or tokens as `how` says}, "each": what each came to, where it is
        known of each request}. requests: as many as are judged, None for all."""
        header, counts = f"response header {self.run.scenario.reach.served_by.lower()}", headers_in(samples)
        if len(counts) > MOST_PODS and not self.slices:
            return {"how": f"unknown: {header} has {len(counts):,} values", "pods": {}}
        if counts:
            how = "per-pod slices" if self.slices else header
            return {"how": how, "pods": counts, "each": {name: figures(samples, name, requests) for name in counts}}
        after = self._counters()
        grown = {pod: grew for pod, count in after.items() if (grew := growth(self._before.get(pod, 0), count)) > 0}
        if grown:
            return {"how": f"the pods' own counter {self._counter()}", "pods": grown}
        if len(after.keys() | self._before.keys()) == 1:
            return {"how": "the only pod there was", "pods": {next(iter(after or self._before)): len(samples)}}
        return {"how": "unknown", "pods": {}}

    def _counter(self) -> str:
        metrics = contract_of(self.serves.runtime).metrics
        return metrics.get("request_count") or metrics.get("token_throughput") or ""

    def _counters(self) -> dict[str, float]:
        """Pod -> its counter, 0 where it tells none; empty when the pods cannot be read."""
        run, contract = self.run, contract_of(self.serves.runtime)
        out: dict[str, float] = {}
        with suppress(ApiError):
            for pod in serving(run.cluster, self.serves, run.namespace).pods:
                name, text = str(pod["metadata"]["name"]), ""
                if self._counter():
                    with suppress(ApiError):
                        text = page(run.cluster, pod, contract.metrics_path)
                out[name] = total(text, Series(self._counter()))
        return out


def headers_in(samples: Samples) -> dict[str, int]:
    """Who answered -> how many requests; what named nobody is not in it."""
    counts = np.bincount(samples.by, minlength=len(samples.names["by"]))
    return {name: int(count) for name, count in zip(samples.names["by"], counts, strict=True) if name and count}


def figures(samples: Samples, name: str, requests: int | None = None) -> dict[str, float]:
    """Of the requests that one pod served, warm-up too, up to those judged: how many failed, and the 95th percentile of whole
    answers in seconds, failures and what was still open at the end infinitely late."""
    mine = samples.where(samples.by == samples.names["by"].index(name))
    mine = mine if requests is None else mine.where(mine.i < requests)
    failed, answered = mine.is_error() & ~mine.censored, mine.answered("e2e")
    return {"failed": int(failed.sum()), "e2e_p95_s": percentile(answered, 0.95) if len(answered) else math.inf}


def growth(before: float, after: float) -> float:
    """Of a counter, which begins anew with its process."""
    return after - before if after >= before else after
