"""The watchdog's Job as a real API server takes it: let in anywhere, among the last to be evicted, there for as long as it
may be needed, and soon on another node when its own is lost."""

import pytest

from hotfire.journal.journal import Body, Journal
from hotfire.kube.client import Cluster, Forbidden, Object
from hotfire.rollout.job import manifest, pod_on_paper
from hotfire.words import Mode

IMAGE = "registry.example/hotfire@sha256:" + "c" * 64
CANDIDATE = {"app": "llama"}
SETTLE_S, SOAK_S = 900.5, 30.0


def job(cluster: Cluster, home: str, within_s: float = 400) -> Object:
    body = Body(
        run="run-a", namespace="serves", mode=Mode.PROMOTE, workloads=("deployment/llama",), soak_s=SOAK_S, within_s=within_s
    )
    live = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hotfire-journal", "namespace": home}}
    return manifest(Journal(cluster, live, body), IMAGE, SETTLE_S, pulls=("pull",), away_from=(CANDIDATE,))


def pod_of(made: Object) -> Object:
    meta = {"name": "one", "namespace": made["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": made["spec"]["template"]["spec"]}


def test_its_pod_is_let_in_where_only_restricted_ones_are(cluster: Cluster, restricted: str) -> None:
    pod = pod_of(job(cluster, restricted))
    cluster.create(pod, dry_run=True)
    del pod["spec"]["securityContext"]["runAsNonRoot"]
    with pytest.raises(Forbidden, match="PodSecurity"):
        cluster.create(pod, dry_run=True)


def test_what_it_may_use_is_what_it_asks_for_and_what_was_counted_for_it(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(pod_of(job(cluster, namespace)), dry_run=True)
    (container,), (paper,) = made["spec"]["containers"], pod_on_paper(namespace)["spec"]["containers"]
    assert made["status"]["qosClass"] == "Guaranteed" and container["resources"] == paper["resources"]
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}  # no device


@pytest.mark.parametrize("within_s", [1.0, 400.0])
def test_it_is_there_until_it_could_have_restored_twice_after_settle_by(
    cluster: Cluster, namespace: str, within_s: float
) -> None:
    made = cluster.create(job(cluster, namespace, within_s), dry_run=True)["spec"]
    assert made["activeDeadlineSeconds"] >= SETTLE_S + 2 * (within_s + SOAK_S)
    assert made["backoffLimit"] >= 1000 and made["template"]["spec"]["restartPolicy"] == "OnFailure"


def test_it_leaves_a_lost_node_within_ten_seconds(cluster: Cluster, namespace: str) -> None:
    """The API server would say 300 where a pod says nothing."""
    tolerated = cluster.create(pod_of(job(cluster, namespace)), dry_run=True)["spec"]["tolerations"]
    seconds = {one["key"]: one["tolerationSeconds"] for one in tolerated}
    assert seconds == {"node.kubernetes.io/not-ready": 10, "node.kubernetes.io/unreachable": 10} and len(tolerated) == 2


def test_it_prefers_nodes_without_the_candidates_pods_and_needs_none(cluster: Cluster, namespace: str) -> None:
    affinity = cluster.create(pod_of(job(cluster, namespace)), dry_run=True)["spec"]["affinity"]
    assert affinity.keys() == {"podAntiAffinity"} and affinity["podAntiAffinity"].keys() == {
        "preferredDuringSchedulingIgnoredDuringExecution"
    }
    (preferred,) = affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    term = preferred["podAffinityTerm"]
    assert term["labelSelector"] == {"matchLabels": CANDIDATE} and term["namespaces"] == ["serves"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
