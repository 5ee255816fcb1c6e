"""Isolation: a node keeps pods out by its taint alone, and only the scheduler's own words show that it did."""

from collections.abc import Iterator

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.kube.client import Object
from hotfire.kube.fit import tainted
from hotfire.plugin.nouns import candidate
from hotfire.plugin.nouns.candidate import Candidate
from hotfire.words import Reason
from tests.answers import ANCHOR, NAMESPACE, Answers, answering, listed, located, pod

DECLARED = ("ai.workload=inference:NoSchedule",)
TAINT: Object = {"key": "ai.workload", "value": "inference", "effect": "NoSchedule"}
NOT_READY: Object = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
PREEMPTION = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
WORDS = {  # what a scheduler says -> nodes that refused for a taint, and no node it was aimed at for anything else
    "0/3 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 2 node(s) had untolerated taint(s)."
    " no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.": 2,
    "0/3 nodes are available: 2 node(s) had untolerated taint {ai.workload: inference}.": 2,
    "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
    f"2 node(s) had untolerated taint {{ai.workload: inference}}.{PREEMPTION}.": 2,
    "0/3 nodes are available: 1 node(s) had taint {a: }, that the pod didn't tolerate, "
    "2 node(s) had taint {b.c/d: e}, that the pod didn't tolerate.": 3,
    "0/2 nodes are available: 2 Insufficient memory.": 0,
    f"0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint(s).{PREEMPTION}": 0,
    "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {ai.workload: inference}.": 0,
    "0/2 nodes are available: 2 node(s) were unschedulable.": 0,
    "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.": 0,
    "0/2 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s).": 0,
    "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.": 0,
    "0/2 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity, 1 node(s) had untolerated taint(s).": 0,
    "0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [Other], 1 node(s) had untolerated taint(s).": 0,
    "0/2 nodes are available: pod affinity terms conflict.": 0,
    "no nodes available to schedule pods": 0,
    "": 0,
}


@pytest.mark.parametrize("said", WORDS)
def test_the_schedulers_words_are_counted_by_node(said: str) -> None:
    assert tainted(said) == WORDS[said]


def node(name: str, *taints: Object, **spec: object) -> Object:
    return {"metadata": {"name": name}, "spec": {**({"taints": list(taints)} if taints else {}), **spec}}


@pytest.fixture
def api() -> Iterator[Answers]:
    """Two tainted nodes with a pod of the candidate each."""
    with answering() as answers:
        answers.serving(pod("a", "gpu-1"), pod("b", "gpu-2"))
        answers.said["/api/v1/nodes"] = listed(node("gpu-1", TAINT), node("gpu-2", TAINT), node("cpu-1"))
        yield answers


def asked(api: Answers, said: str, *declared: str) -> list[str]:
    """The findings, where the scheduler says so of the probe."""
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    api.becomes = api.becomes or {"status": {"conditions": [refused]}}
    noun = Candidate(api.cluster, located(scheduling={"tolerates": DECLARED}), NAMESPACE, ANCHOR, 0.0)
    spec = CheckSpec("scheduling.isolation", Evidence("probe-pod"))
    with running("scheduling.isolation", spec, lambda seen: None) as current:
        lines = list(noun.nodes_open_to_intolerant_pods(declared or DECLARED))
    assert current.seen == {"probe-pod": 2}
    return lines


BOTH = "0/3 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 2 node(s) had untolerated taint(s)."


def test_nodes_that_all_refuse_for_their_taint_are_isolated(api: Answers) -> None:
    assert asked(api, f"{BOTH}{PREEMPTION}") == []
    (probe,) = api.made
    terms = probe["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    aimed = [value for term in terms for rule in term["matchFields"] for value in rule["values"]]
    assert aimed == ["gpu-1", "gpu-2"] and not probe["spec"].get("tolerations")


def test_a_node_that_takes_the_probe_is_open(api: Answers) -> None:
    api.becomes = {"spec": {"nodeName": "gpu-2"}}
    assert asked(api, "") == ["gpu-2 took a pod without the declared tolerations"]


@pytest.mark.parametrize(
    "said",
    [
        "0/3 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 2 Insufficient memory.",
        "0/3 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 2 node(s) were unschedulable.",
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity], "
        "1 node(s) had untolerated taint {ai.workload: inference}.",
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
    ],
    ids=["full", "cordoned", "one full, one tainted", "one tainted, one nowhere"],
)
def test_a_refusal_that_no_taint_accounts_for_says_nothing_of_isolation(api: Answers, said: str) -> None:
    with pytest.raises(Unjudged) as unjudged:
        asked(api, said)
    assert unjudged.value.reason is Reason.NO_DATA and said in unjudged.value.message
    assert "kept from gpu-1, gpu-2" in unjudged.value.message and "run again" in unjudged.value.message


@pytest.mark.parametrize(
    "taints", [(), (NOT_READY,), ({**TAINT, "value": "other"},), ({**TAINT, "effect": "PreferNoSchedule"},)]
)
def test_a_node_whose_taint_is_none_of_the_declared_is_not_vouched_for(api: Answers, taints: tuple[Object, ...]) -> None:
    """The scheduler's words name no taint any more; one for the node's own health is gone tomorrow."""
    api.said["/api/v1/nodes"] = listed(node("gpu-1", NOT_READY, TAINT), node("gpu-2", *taints))
    with pytest.raises(Unjudged, match=r"gpu-2 carries no taint of scheduling\.tolerates") as unjudged:
        asked(api, BOTH)
    assert "gpu-1 carries" not in unjudged.value.message


def test_a_taint_that_only_asks_to_stay_away_keeps_nobody_out(api: Answers) -> None:
    taints = {**TAINT, "effect": "PreferNoSchedule"}, NOT_READY
    api.said["/api/v1/nodes"] = listed(node("gpu-1", *taints), node("gpu-2", *taints))
    with pytest.raises(Unjudged, match="gpu-1 carries no taint"):
        asked(api, BOTH, "ai.workload=inference:PreferNoSchedule")


def test_a_silent_scheduler_has_refused_nothing(api: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate, "PROBE_WAIT", 0.3)
    api.becomes = {"status": {"phase": "Pending"}}
    with pytest.raises(Unjudged, match="the scheduler said nothing of hotfire-isolation-abc123") as unjudged:
        asked(api, "")
    assert unjudged.value.reason is Reason.TIMEOUT
