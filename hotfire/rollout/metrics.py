"""A pod's own metrics, through the API server: from wherever the run is, and without a Service in between."""

import time
from collections.abc import Mapping

from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.pods import ready_since
from hotfire.kube.wait import pause
from hotfire.rollout.population import population
from hotfire.runtimes.contract import Contract

PAGE_S = 3.0  # seconds for one pod's page: evidence, never worth a wait


def page(cluster: Cluster, pod: Object, path: str) -> str:
    """Prometheus text from the first port that the pod's containers name. Raises ApiError."""
    meta = pod["metadata"]
    ports = [port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
    where = f"{meta['name']}:{ports[0] if ports else 80}"
    return cluster.text("GET", f"/api/v1/namespaces/{meta['namespace']}/pods/{where}/proxy{path}", timeout=PAGE_S)


def serving_rate(cluster: Cluster, ref: Ref, contract: Contract, seconds: float) -> Mapping[str, float | None]:
    """Requests per second of each Ready pod, by its counters, over so long; None for one that does not tell. Raises ApiError,
    NotFound for a workload that is not there."""
    pods = [pod for pod in population(cluster, ref).pods if ready_since(pod)]
    began = time.monotonic()
    first = {pod["metadata"]["name"]: _served(cluster, pod, contract) for pod in pods}
    pause(seconds)
    rates: dict[str, float | None] = {}
    for pod in pods:
        before, after = first[pod["metadata"]["name"]], _served(cluster, pod, contract)
        told = None if before is None or after is None else max(after - before, 0.0)
        rates[pod["metadata"]["name"]] = None if told is None else told / (time.monotonic() - began)
    return rates


def _served(cluster: Cluster, pod: Object, contract: Contract) -> float | None:
    return contract.counts.served(page(cluster, pod, contract.metrics_path)) if contract.counts else None
