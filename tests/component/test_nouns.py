"""What the suites' nouns say of pods written by hand: each container by name, each pod by owner, nobody by absence."""

import copy
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.plugin.nouns.candidate import Candidate
from hotfire.plugin.nouns.pods import CandidatePods
from hotfire.record.events import Seen
from hotfire.rollout.feasible import gather, way_back
from hotfire.rollout.population import REVISION
from hotfire.rollout.snapshot import take
from hotfire.scenario.loader import load
from hotfire.words import Reason
from tests.planted_run import MANIFESTS, SCENARIO

ASKED, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SCHEDULING = "scheduling: {nodes: {accelerator: gpu}, tolerates: ['dedicated=llm:NoSchedule']}\n"


@dataclass
class Hand:
    """Writes what the controllers and kubelets would write."""

    cluster: Cluster
    namespace: str
    folder: Any
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "manifests").mkdir()
        (self.folder / "manifests" / "all.yaml").write_text(MANIFESTS)
        (self.folder / "scenario.yaml").write_text(SCENARIO.replace("NAMESPACE", self.namespace) + SCHEDULING)
        self.located = load(self.folder / "scenario.yaml")
        self.pods = CandidatePods(self.cluster, self.namespace, self.located.scenario)
        self.candidate = Candidate(self.cluster, self.located, self.namespace, {}, None)

    def make(self, api_version: str, kind: str, name: str, owner: Object | None = None, **rest: Any) -> Object:
        meta: Object = {"name": name, "namespace": self.namespace, "labels": {"app": "tiny"}, **rest.pop("metadata", {})}
        if owner is not None:
            of = {key: owner[key] for key in ("apiVersion", "kind")}
            meta["ownerReferences"] = [
                {**of, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": True}
            ]
        status = rest.pop("status", None)
        made = self.cluster.create({"apiVersion": api_version, "kind": kind, "metadata": meta, **rest})
        return made if status is None else self.cluster.replace({**made, "status": status}, subresource="status")

    def deployment(self, replicas: int, revision: str = "2") -> Object:
        spec: Any = copy.deepcopy({**self.located.objects[1]["spec"], "replicas": replicas})  # type: ignore[dict-item]
        spec["template"]["spec"]["containers"][0]["name"] = "c0"
        status = {"observedGeneration": 1}
        return self.make(
            "apps/v1", "Deployment", "tiny", metadata={"annotations": {REVISION: revision}}, spec=spec, status=status
        )

    def replica_set(self, owner: Object, revision: str) -> Object:
        spec = {key: owner["spec"][key] for key in ("selector", "template")}
        return self.make(
            "apps/v1", "ReplicaSet", f"tiny-{revision}", owner, metadata={"annotations": {REVISION: revision}}, spec=spec
        )

    def pod(self, name: str, owner: Object, *restarts: int, ready: bool = True, image: str = ASKED, node: str = "") -> Object:
        """A pod of one container for each count of restarts; without any, its kubelet said nothing of containers."""
        names = [f"c{number}" for number in range(max(len(restarts), 1))]
        spec: Object = {"containers": [{"name": one, "image": f"registry.example/tiny@{image}"} for one in names]}
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [
                {"name": one, "restartCount": count, "ready": ready, "image": "i", "imageID": f"registry.example/tiny@{image}",
                 "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
                for one, count in zip(names, restarts, strict=False)
            ],
        }  # fmt: skip
        return self.make("v1", "Pod", name, owner, spec=spec | ({"nodeName": node} if node else {}), status=status)

    def behind(self, *pods: Object) -> None:
        """The Service's EndpointSlice."""
        targets = [{"kind": "Pod", **{key: pod["metadata"][key] for key in ("name", "uid")}} for pod in pods]
        ends = [{"addresses": [f"10.0.0.{number}"], "targetRef": target} for number, target in enumerate(targets, 1)]
        labels = {"labels": {"kubernetes.io/service-name": "tiny"}}
        self.make(
            "discovery.k8s.io/v1", "EndpointSlice", "tiny-1", metadata=labels, addressType="IPv4", endpoints=ends, ports=[]
        )

    def ask(self, question: Any, needs: Evidence) -> tuple[list[str], str]:
        """The findings, and what of the evidence is missing."""
        with running("a.check", CheckSpec("a.check", needs), self.seen.append) as current:
            return list(question()), needs.missing(current.seen)


@pytest.fixture
def hand(cluster: Cluster, namespace: str, tmp_path: Any) -> Hand:
    return Hand(cluster, namespace, tmp_path)


RESTARTS = Evidence("container", per="serving-pod")


def test_restarts_are_counted_per_container_by_name(hand: Hand) -> None:
    new = hand.replica_set(hand.deployment(2), "2")
    hand.pod("a", new, 7, 0)
    hand.pod("b", new, 0, 9)
    lines, missing = hand.ask(lambda: hand.pods.restarted_more_than(0), RESTARTS)
    assert lines == ["a/c0: 7 restarts, last by unknown", "b/c1: 9 restarts, last by unknown"] and missing == ""
    assert hand.ask(lambda: hand.pods.restarted_more_than(8), RESTARTS)[0] == ["b/c1: 9 restarts, last by unknown"]


def test_a_pod_whose_containers_nobody_saw_is_not_judged_by_anothers(hand: Hand) -> None:
    new = hand.replica_set(hand.deployment(2), "2")
    hand.pod("a", new, 0, 0)
    hand.pod("b", new)
    with pytest.raises(Unjudged) as unjudged:
        hand.ask(lambda: hand.pods.restarted_more_than(0), RESTARTS)
    assert unjudged.value.reason is Reason.EMPTY


@pytest.mark.parametrize("question", ["restarted_more_than", "granted", "without_tolerations", "on_other_nodes_than"])
def test_no_pod_at_all_is_never_green(hand: Hand, question: str) -> None:
    hand.replica_set(hand.deployment(2), "2")
    arguments: dict[str, Any] = {
        "restarted_more_than": 0,
        "without_tolerations": ("a=b:NoSchedule",),
        "on_other_nodes_than": {"a": "b"},
    }
    hand.pods.start_within = 0.5
    with pytest.raises(Unjudged):
        hand.ask(lambda: getattr(hand.pods, question)(*([arguments[question]] if question in arguments else [])), RESTARTS)


def test_one_ready_pod_of_two_is_not_ready(hand: Hand) -> None:
    new = hand.replica_set(hand.deployment(2), "2")
    hand.pod("a", new, 0, node="n")
    hand.pod("b", new, 0, ready=False, node="n")
    lines, _ = hand.ask(lambda: hand.pods.not_ready(0.6), Evidence("ready-pod"))
    assert any(line.startswith("b  ") for line in lines) and not hand.seen


def test_one_pod_where_two_are_wanted_is_not_ready(hand: Hand) -> None:
    hand.pod("a", hand.replica_set(hand.deployment(2), "2"), 0, node="n")
    assert hand.ask(lambda: hand.pods.not_ready(0.6), Evidence("ready-pod"))[0] and not hand.seen


def test_ready_pods_of_an_older_revision_are_not_the_candidates(hand: Hand) -> None:
    """The old pods are Ready and carry the same labels; the new ReplicaSet has none yet."""
    deployment = hand.deployment(2)
    hand.replica_set(deployment, "2")
    old = hand.replica_set(deployment, "1")
    hand.behind(hand.pod("a", old, 0, node="n"), hand.pod("b", old, 0, node="n"))
    assert hand.ask(lambda: hand.pods.not_ready(0.6), Evidence("ready-pod"))[0] and not hand.seen
    hand.candidate.leave_within = 0.5
    with pytest.raises(Unjudged):
        hand.ask(hand.candidate.strangers, Evidence("serving-pod"))


def test_two_ready_pods_of_two_are_ready(hand: Hand) -> None:
    new = hand.replica_set(hand.deployment(2), "2")
    pods = [hand.pod(name, new, 0, node="n") for name in ("a", "b")]
    hand.behind(*pods)
    assert hand.ask(lambda: hand.pods.not_ready(5), Evidence("ready-pod", at_least=2)) == ([], "")
    assert hand.ask(hand.candidate.strangers, Evidence("serving-pod", at_least=2)) == ([], "")


def test_whoever_else_answers_in_its_name_is_a_stranger(hand: Hand) -> None:
    deployment = hand.deployment(2)
    new, old = hand.replica_set(deployment, "2"), hand.replica_set(deployment, "1")
    hand.candidate.leave_within = 0.5
    mine, wrong, alone = hand.pod("a", new, 0), hand.pod("b", new, 0, image=OTHER), hand.pod("c", new, 0)
    hand.behind(mine, wrong, hand.pod("d", old, 0))
    lines, _ = hand.ask(hand.candidate.strangers, Evidence("serving-pod"))
    assert sorted(lines) == [
        f"b/c0 runs image {OTHER}, ['{ASKED}'] is asked",
        "c is not behind tiny",
        "tiny reaches d, which is not of this rollout",
    ]
    assert alone["metadata"]["name"] == "c"


def test_a_container_that_a_webhook_added_is_no_strangers_image(hand: Hand) -> None:
    """As a mesh's sidecar: the workload does not name it. What it does name is held against what was asked for."""
    hand.candidate.leave_within = 0.5
    new = hand.replica_set(hand.deployment(1), "2")
    one = hand.pod("a", new, 0, 0)
    status = copy.deepcopy(one["status"])
    status["containerStatuses"][1]["imageID"] = f"registry.example/proxy@{OTHER}"
    hand.cluster.replace({**one, "status": status}, subresource="status")
    hand.behind(one)
    assert hand.ask(hand.candidate.strangers, Evidence("serving-pod")) == ([], "")
    assert hand.seen[-1].observed == {"a": ["c0", "c1"]}


def test_a_pod_that_is_being_replaced_gets_the_time_to_leave(hand: Hand) -> None:
    deployment = hand.deployment(1)
    new, old = hand.replica_set(deployment, "2"), hand.replica_set(deployment, "1")
    mine, leaving = hand.pod("a", new, 0), hand.pod("d", old, 0)
    hand.behind(mine, leaving)

    def leaves() -> None:
        found = hand.cluster.get(Ref("discovery.k8s.io/v1", "EndpointSlice", hand.namespace, "tiny-1"))
        hand.cluster.delete(Ref.of(leaving), uid=leaving["metadata"]["uid"], grace=0)
        hand.cluster.replace({**found, "endpoints": found["endpoints"][:1]})

    threading.Timer(1.0, leaves).start()
    assert hand.ask(hand.candidate.strangers, Evidence("serving-pod", per="serving-pod")) == ([], "")


def test_a_pod_whose_image_nobody_saw_is_a_stranger(hand: Hand) -> None:
    hand.candidate.leave_within = 0.5
    hand.behind(hand.pod("a", hand.replica_set(hand.deployment(1), "2")))
    assert hand.ask(hand.candidate.strangers, Evidence("serving-pod"))[0]


def test_a_pod_on_a_node_without_label_or_taint_is_named(hand: Hand) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n-{hand.namespace}", "labels": {"accelerator": "tpu"}}}
    hand.cluster.create(node)
    hand.pod("a", hand.replica_set(hand.deployment(1), "2"), 0, node=node["metadata"]["name"])  # type: ignore[index]
    declared = hand.located.scenario.scheduling
    assert declared is not None
    lines, missing = hand.ask(lambda: hand.pods.on_other_nodes_than(declared.nodes), Evidence("node", per="serving-pod"))
    assert len(lines) == 1 and "{'accelerator': 'tpu'}, {'accelerator': 'gpu'} is expected" in lines[0] and missing == ""
    lines, _ = hand.ask(lambda: hand.pods.without_tolerations(declared.tolerates), Evidence("toleration", per="serving-pod"))
    assert lines[0] == "a does not tolerate dedicated=llm:NoSchedule" and "does not carry the taint" in lines[1]


def test_a_workload_of_the_manifests_that_serves_no_api_is_counted_and_kept_like_the_others(hand: Hand) -> None:
    service, tiny = hand.located.objects
    side = {**tiny, "metadata": {"name": "side"}}
    hand.make("apps/v1", "Deployment", "side", spec={**tiny["spec"], "replicas": 2})  # type: ignore[dict-item]
    located = hand.located.model_copy(update={"objects": (service, tiny, side)})
    room = gather(hand.cluster, located, hand.namespace)
    assert [one.name for one in room.changes] == ["deployment/tiny", "deployment/side"]
    assert "deployment/side: 0 of 2 pods serve now, there is no last known good to return to" in way_back(room)
    assert list(take(hand.cluster, located, hand.namespace).serving) == ["deployment/side"]
