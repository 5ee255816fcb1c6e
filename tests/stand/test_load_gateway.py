"""Users behind a real gateway, HAProxy, on real kubelets: they are counted there, and requests of the run go by the Ingress."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from hotfire.kube.client import Cluster, Ref
from hotfire.stand.images import pull_secret
from tests import gateway
from tests.neighbour import neighbour

guard = neighbour("tests/stand/test_load_guard")
runs = guard.runs
old = guard.old


@pytest.fixture
def edge(embedded: Any, cluster: Cluster, place: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address where users come in, and what a scenario says of the gateway; it has a namespace of its own."""
    made = cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"edge-{uuid.uuid4().hex[:8]}"}})
    name = str(made["metadata"]["name"])
    spec = json.loads(place.kubectl("get", "service", "tiny", "-o", "json"))["spec"]
    own = [
        pull_secret(embedded.registry, "registry"),
        *gateway.objects(gateway.push(embedded.registry), f"{spec['clusterIP']}:80"),
    ]
    for obj in own:
        cluster.create({**obj, "metadata": {**obj["metadata"], "namespace": name}})
    place.kubectl("-n", name, "wait", "pod/gateway", "--for=condition=Ready", "--timeout=60s")
    address = str(cluster.get(Ref("v1", "Pod", name, "gateway"))["status"]["hostIP"])
    to = {"service": {"name": "tiny", "port": {"name": "http"}}}
    place.apply(
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "edge"}, "spec": {"defaultBackend": to}}
    )
    ingress = cluster.get(Ref("networking.k8s.io/v1", "Ingress", place.name, "edge"))
    cluster.replace({**ingress, "status": {"loadBalancer": {"ingress": [{"ip": address}]}}}, subresource="status")
    counted = {
        "kind": "haproxy",
        "backend": "llm_tiny_http",
        "namespace": name,
        "pods": "app=gateway",
        "metrics": "8404/metrics",
    }
    serves = {"workload": "deployment/tiny", "service": "tiny", "runtime": "tiny", "model": "m", "counted_by": counted}
    yield address, {"candidate": {"manifests": "manifests/", "serves": [serves]}, "reach": {"via": "ingress"}}
    place.kubectl("delete", "namespace", name, "--timeout=60s")


def test_requests_go_by_the_ingress_and_users_are_counted_at_the_gateway(place: Any, armed: Any, new: Any, edge: Any) -> None:
    address, scenario = edge
    with guard.users(place, workers=8, at=address) as answered:
        ended = guard.run(place, armed(runs.service(), new(), scenario={**guard.LIVE, **scenario}))
        assert answered() > 0
    assert (ended.code, ended.check("rollout.users[tiny]")["outcome"]) == (0, "PASS"), ended.output
    assert ended.check("preflight.live-load")["outcome"] == "PASS"
    assert "requests counted by haproxy" in (ended.folder / "certificate.html").read_text()
    assert place.ask().startswith("new") and runs.judged(ended.folder).returncode == 0


def test_what_the_gateway_alone_counts_as_failed_is_rolled_back(place: Any, armed: Any, new: Any, edge: Any) -> None:
    address, scenario = edge
    before = place.serving()
    command = armed(runs.service(), new("--fail-on", guard.ONLY_USERS), scenario={**guard.CAPPED, **runs.LONG, **scenario})
    process = runs.started(place, command, "load: ")
    with guard.users(place, workers=4, every=0.06, at=address) as answered:
        process.wait(90)
        guard.ten_more(answered)
    ended = place.ended(process.returncode, (place.folder / "output.txt").read_text())
    failed = [one["check"] for one in ended.verdict["checks"] if one["outcome"] == "FAIL"]
    assert (ended.code, failed) == (20, ["rollout.users[tiny]"]), ended.output
    old(place, before)
