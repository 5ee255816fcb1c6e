"""Who counts users' requests, read through the API server: from wherever the run is, and without a Service in between."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hotfire.kube.client import Cluster, Object
from hotfire.kube.pods import ready_since
from hotfire.kube.wait import pause
from hotfire.rollout.population import serving
from hotfire.runtimes import contract_of
from hotfire.runtimes.counters import Counts
from hotfire.runtimes.gateways import counts_of
from hotfire.scenario.serves import Serves

PAGE_S = 3.0  # seconds for one pod's page: evidence, never worth a wait


def page(cluster: Cluster, pod: Object, path: str, port: str = "") -> str:
    """Prometheus text, from the first port that the pod's containers name where none is given. Raises ApiError."""
    meta = pod["metadata"]
    ports = [port] if port else [one["containerPort"] for each in pod["spec"]["containers"] for one in each.get("ports") or ()]
    where = f"{meta['name']}:{ports[0] if ports else 80}"
    return cluster.text("GET", f"/api/v1/namespaces/{meta['namespace']}/pods/{where}/proxy{path}", timeout=PAGE_S)


@dataclass(frozen=True)
class Meter:
    """The pods that count the requests of one API: its own, or those of the gateway in front of it."""

    cluster: Cluster
    namespace: str
    serves: Serves

    @cached_property
    def counts(self) -> Counts | None:
        return counts_of(self.serves)

    @property
    def who(self) -> str:
        """In words."""
        return str(self.serves.counted_by.kind) if self.serves.counted_by else "the pods"

    def pods(self) -> tuple[list[Object], bool]:
        """Ready ones, and whether what they count is of the newest template alone: a gateway's may still be of both. Raises
        ApiError, NotFound for a workload that is not there."""
        found = serving(self.cluster, self.serves, self.namespace)
        if (gateway := self.serves.counted_by) is None:
            return [pod for pod in found.pods if ready_since(pod)], True
        pods = self.cluster.list("v1", "Pod", gateway.namespace, labels=gateway.pods)
        return [pod for pod in pods if ready_since(pod)], not found.others

    def page(self, pod: Object) -> str:
        """What one of them tells. Raises ApiError."""
        if (gateway := self.serves.counted_by) is None:
            return page(self.cluster, pod, contract_of(self.serves.runtime).metrics_path)
        port, _, path = gateway.metrics.partition("/")
        return page(self.cluster, pod, f"/{path}", port)

    def rates(self, seconds: float) -> Mapping[str, float | None]:
        """Requests per second by each of the pods, over so long; None for one that does not tell. Raises as `pods` does."""
        pods, _ = self.pods()
        began, first = time.monotonic(), [self._served(pod) for pod in pods]
        pause(seconds)
        rates: dict[str, float | None] = {}
        for pod, before in zip(pods, first, strict=True):
            after, took = self._served(pod), time.monotonic() - began
            rates[pod["metadata"]["name"]] = None if before is None or after is None else max(after - before, 0.0) / took
        return rates

    def _served(self, pod: Object) -> float | None:
        return self.counts.served(self.page(pod)) if self.counts else None
