"""The load's Job as a real API server takes it: where only restricted pods may run, without devices, for a bounded time."""

from pathlib import Path
from typing import Any

import pytest

from hotfire.kube.client import Cluster, Forbidden, Object
from hotfire.rollout.load_job import manifest, on_paper, policy
from hotfire.rollout.rights import rights, watchdog_rights
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from tests.planted_run import MANIFESTS, SCENARIO

IMAGE = "registry.example/hotfire-load@sha256:" + "b" * 64
ASKED = """load: {arrivals: poisson 20/s, from: cluster, workers: 2}
slos: [{metric: errors, ratio: "< 20%"}]
"""


@pytest.fixture
def located(tmp_path: Path, namespace: str) -> Located:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "all.yaml").write_text(MANIFESTS)
    stand = f"stand: {{namespace: {namespace}, load_image: '{IMAGE}', accelerators: simulated}}"
    text = "\n".join(stand if line.startswith("stand:") else line for line in SCENARIO.splitlines())
    (tmp_path / "scenario.yaml").write_text(f"{text}\n{ASKED}")
    return load(tmp_path / "scenario.yaml")


def job(located: Located, namespace: str, **more: Any) -> Object:
    return manifest(
        located, namespace, "planted-1", "hotfire-load-1", image=IMAGE, args=["--plan", "-"], deadline_s=90.2, **more
    )


def pod_of(made: Object) -> Object:
    meta = {"name": "one", "namespace": made["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": made["spec"]["template"]["spec"]}


def test_its_pod_is_let_in_where_only_restricted_ones_are(cluster: Cluster, located: Located, restricted: str) -> None:
    pod = pod_of(job(located, restricted, secret="api-key/token"))
    assert cluster.create(pod, dry_run=True)["status"]["qosClass"] == "Guaranteed"
    del pod["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(Forbidden, match="PodSecurity"):
        cluster.create(pod, dry_run=True)


def test_it_is_bounded_and_asks_for_no_device(cluster: Cluster, located: Located, namespace: str) -> None:
    made = cluster.create(job(located, namespace, pods=2), dry_run=True)["spec"]
    assert (made["activeDeadlineSeconds"], made["backoffLimit"], made["parallelism"], made["completions"]) == (91, 0, 2, 2)
    container = made["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert container["stdin"] and container["stdinOnce"] and not made["template"]["spec"]["automountServiceAccountToken"]


def test_the_key_comes_from_its_secret_alone(located: Located, namespace: str) -> None:
    container = job(located, namespace, secret="api-key/token")["spec"]["template"]["spec"]["containers"][0]
    assert [one["valueFrom"]["secretKeyRef"] for one in container["env"]] == [{"name": "api-key", "key": "token"}]


def test_room_and_rights_are_asked_for_beforehand(located: Located, namespace: str) -> None:
    assert located.scenario.load is not None
    pods = on_paper(located.scenario.load, namespace)
    assert [pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] for pod in pods] == ["1", "1", "200m"]
    asked = {str(right) for right in rights(located)}
    assert {"create jobs.batch", "delete jobs.batch", "create pods/attach", "create networkpolicies.networking.k8s.io"} <= asked
    assert "delete networkpolicies.networking.k8s.io" in {str(right) for right in watchdog_rights(located)}


def test_only_its_own_pods_reach_the_one_that_leads(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(policy(namespace, "planted-1", "hotfire-load-1"), dry_run=True)["spec"]
    (rule,) = made["ingress"]
    assert made["podSelector"] == rule["from"][0]["podSelector"] and rule["ports"] == [{"port": 5557, "protocol": "TCP"}]
