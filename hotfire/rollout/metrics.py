"""A pod's own metrics, through the API server: from wherever the run is, and without a Service in between."""

from hotfire.kube.client import Cluster, Object

PAGE_S = 3.0  # seconds for one pod's page: evidence, never worth a wait


def page(cluster: Cluster, pod: Object, path: str) -> str:
    """Prometheus text from the first port that the pod's containers name. Raises ApiError."""
    meta = pod["metadata"]
    ports = [port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
    where = f"{meta['name']}:{ports[0] if ports else 80}"
    return cluster.text("GET", f"/api/v1/namespaces/{meta['namespace']}/pods/{where}/proxy{path}", timeout=PAGE_S)
