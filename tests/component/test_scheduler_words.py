"""The real scheduler on nodes written by hand: what it says of each is what `scheduling.isolation` reads."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.plugin.nouns.candidate import Candidate
from tests.answers import ANCHOR, located, pod

DECLARED = ("ai.workload=inference:NoSchedule",)
TAINT: Object = {"key": "ai.workload", "value": "inference", "effect": "NoSchedule"}
ROOM = {"cpu": "2", "memory": "2Gi", "pods": "9"}
Ask = Callable[..., list[str]]


@pytest.fixture
def ask(control_plane, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """The findings for a candidate on nodes of these specs, each with room unless it is said to be full; no pod of it is on
    one that is said to be elsewhere."""
    monkeypatch.setattr("hotfire.plugin.nouns.candidate.PROBE_WAIT", 60.0)  # the scheduler has only just been started
    made: list[Object] = []
    mine: list[str] = []

    def asked(*specs: dict[str, Any]) -> list[str]:
        for number, spec in enumerate(specs):
            spec = dict(spec)
            status = {"allocatable": {**ROOM, "memory": "1Mi"} if spec.pop("full", False) else ROOM}
            meta = {"name": f"{namespace}-{number}"}
            away = spec.pop("elsewhere", False)
            node = cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}})
            mine.extend([] if away else [node["metadata"]["name"]])
            made.append(node)
            node = cluster.replace({**node, "spec": spec})  # without the taint of a node whose kubelet has said nothing
            cluster.replace({**node, "status": status}, subresource="status")
        noun = Candidate(cluster, located(), namespace, ANCHOR, 0.0)
        noun.pods.now = lambda: [pod(one, one) for one in mine]  # type: ignore[method-assign]
        with running("scheduling.isolation", CheckSpec("a.b", Evidence("probe-pod")), lambda seen: None):
            return list(noun.nodes_open_to_intolerant_pods(DECLARED))

    config = f"--kubeconfig={control_plane.kubeconfig('admin')}"
    control_plane.run("kube-scheduler", config, "--leader-elect=false", "--secure-port=0")
    yield asked
    scheduler = control_plane.children.pop("kube-scheduler")
    scheduler.kill()
    scheduler.wait()
    for node in made:
        cluster.delete(Ref.of(node), uid=node["metadata"]["uid"])


def test_two_tainted_nodes_are_isolated(ask: Ask) -> None:
    assert ask({"taints": [TAINT]}, {"taints": [TAINT], "full": True}) == []


@pytest.mark.parametrize(("spec", "found"), [({"taints": [TAINT]}, 0), ({}, 1)], ids=["tainted", "open"])
def test_an_open_node_elsewhere_is_not_asked(ask: Ask, namespace: str, spec: dict[str, Any], found: int) -> None:
    line = f"{namespace}-0 took a pod without the declared tolerations"
    assert ask(spec, {"elsewhere": True}) == [line] * found


def test_an_open_node_takes_the_probe(ask: Ask) -> None:
    (line,) = ask({"taints": [TAINT]}, {})
    assert line.endswith("-1 took a pod without the declared tolerations")


@pytest.mark.parametrize(
    ("spec", "said"),
    [({"full": True}, "1 Insufficient memory"), ({"unschedulable": True, "taints": [TAINT]}, "1 node(s) were unschedulable")],
)
def test_a_full_or_cordoned_node_is_never_taken_for_an_isolated_one(ask: Ask, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(Unjudged) as unjudged:
        ask({"taints": [TAINT]}, spec)
    assert said in unjudged.value.message and "1 node(s) had untolerated taint(s)" in unjudged.value.message
