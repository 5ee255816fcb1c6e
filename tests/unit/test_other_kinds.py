"""Workloads of a kind whose controller hotfire does not know: what a scenario must say of them, and which pods are theirs."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotfire.rollout.likeness import made_of, print_of
from hotfire.rollout.rights import foreign_rights
from hotfire.scenario.images import containers, templates
from hotfire.scenario.loader import load
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")

ASKED = "{workload: LeaderWorkerSet.v1.leaderworkerset.x-k8s.io/tiny, pods: 'role=leader', ready: 2, service: tiny"
DIGEST = "registry/tiny@sha256:" + "0123456789abcdef" * 4
SERVER = {"name": "tiny", "image": DIGEST, "args": ["--port", "80"], "resources": {"limits": {"cpu": "1000m"}}}
WORKER = {"name": "worker", "image": DIGEST}
SET: dict[str, Any] = {
    "apiVersion": "leaderworkerset.x-k8s.io/v1",
    "kind": "LeaderWorkerSet",
    "metadata": {"name": "tiny"},
    "spec": {
        "replicas": 2,
        "leaderWorkerTemplate": {
            "leaderTemplate": {"metadata": {"labels": {"role": "leader"}}, "spec": {"containers": [SERVER]}},
            "workerTemplate": {"metadata": None, "spec": {"hostNetwork": False, "containers": [WORKER]}},
        },
    },
}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "tiny"},
           "spec": {"selector": {"leader": "yes"}, "ports": [{"port": 80}]}}  # fmt: skip


def written(folder: Path, serves: str, obj: object = SET) -> Path:
    asked = yaml.safe_dump_all([obj, SERVICE])
    scenario = base.SCENARIO.replace("{workload: deployment/tiny, service: tiny", serves)
    assert serves in scenario
    return Path(base.write(folder, scenario, all=asked))


def test_a_kind_is_named_as_kubectl_names_it_exactly(tmp_path: Path) -> None:
    located = load(written(tmp_path, ASKED[: -len(", service: tiny")] + ", container: tiny, service: tiny"))
    (serves,) = located.scenario.candidate.serves
    assert (serves.api_version, serves.kind, serves.name) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "tiny")
    assert (serves.key, serves.labels, serves.ready) == ("leaderworkerset/tiny", {"role": "leader"}, 2)
    assert {str(right) for right in foreign_rights(located)} == {
        f"{verb} leaderworkersets.leaderworkerset.x-k8s.io" for verb in ("get", "create", "update", "delete")
    }


UNKNOWN = "LeaderWorkerSet.v1.leaderworkerset.x-k8s.io/tiny"


@pytest.mark.parametrize(
    ("serves", "said"),
    [
        (
            f"{{workload: {UNKNOWN}, service: tiny",
            "is a kind whose pods only you know: pods and ready are expected",
        ),
        (f"{{workload: {UNKNOWN}, pods: 'a=b', service: tiny", "pods and ready are expected"),
        (
            "{workload: deployment/tiny, pods: 'a=b', ready: 1, service: tiny",
            "only for kinds other than Deployment",
        ),
        (f"{{workload: {UNKNOWN}, pods: 'a', ready: 1, service: tiny", "pods"),
        (f"{{workload: {UNKNOWN}, pods: 'a=b', ready: 0, service: tiny", "ready"),
        ("{workload: leaderworkerset/tiny, pods: 'a=b', ready: 1, service: tiny", "workload"),
        (ASKED.replace("LeaderWorkerSet.", "Other."), "holds no Other tiny, there is no Other at all"),
        (ASKED.replace(".v1.", ".v2."), "holds no LeaderWorkerSet tiny"),
        (ASKED, "has 2 containers, `container` says which: tiny, worker"),
    ],
)
def test_what_only_the_user_knows_must_be_said_and_is_refused_elsewhere(tmp_path: Path, serves: str, said: str) -> None:
    found = base.refusal(written(tmp_path, serves))
    assert any(line.startswith("scenario.yaml:7:") and said in line for line in found), found


def test_one_without_a_pod_template_is_refused(tmp_path: Path) -> None:
    bare = {**SET, "spec": {"predictor": {"model": {"storageUri": "pvc://m"}}}}
    found = base.refusal(written(tmp_path, ASKED, bare))
    assert any("LeaderWorkerSet tiny holds no pod template" in line for line in found), found


def test_pod_templates_are_found_wherever_the_spec_holds_them() -> None:
    assert [one["spec"]["containers"][0]["name"] for one in templates(SET)] == ["tiny", "worker"]
    assert [one["name"] for one in containers(SET)] == ["tiny", "worker"]
    assert templates({"kind": "ConfigMap", "data": {"containers": "a"}}) == []


LEADER = templates(SET)[0]
POD: dict[str, Any] = {  # as a server has it: with a controller's label and variable, and quantities that were read
    "metadata": {"labels": {"role": "leader", "hash": "1"}},
    "spec": {
        "nodeName": "a", "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        "containers": [
            {"name": "side", "image": "x"},
            {**SERVER, "resources": {"limits": {"cpu": "1"}}, "env": [{"name": "LWS_LEADER_ADDRESS", "value": "b"}]},
        ],
    },
}  # fmt: skip


def test_a_pod_is_of_the_template_whatever_was_added_to_it() -> None:
    assert made_of(LEADER, POD)
    assert not made_of(templates(SET)[1], POD)


OLDER: dict[str, Callable[[dict[str, Any]], object]] = {
    "another label": lambda pod: pod["metadata"]["labels"].update(role="worker"),
    "another image": lambda pod: pod["spec"]["containers"][1].update(image=DIGEST.replace("0", "1")),
    "other arguments": lambda pod: pod["spec"]["containers"][1].update(args=["--port", "81"]),
    "one argument more": lambda pod: pod["spec"]["containers"][1].update(args=["--port", "80", "--slow"]),
    "another limit": lambda pod: pod["spec"]["containers"][1]["resources"]["limits"].update(cpu="2"),
    "a container less": lambda pod: pod["spec"]["containers"].pop(1),
}


@pytest.mark.parametrize("change", OLDER)
def test_a_pod_of_an_older_template_is_not(change: str) -> None:
    pod = deepcopy(POD)
    OLDER[change](pod)
    assert not made_of(LEADER, pod)


PRINTED = {**POD, "metadata": {**POD["metadata"], "name": "tiny-0", "annotations": {"sum": "1", "cni": "10.0.0.1"}}}


def printed(change: Callable[[dict[str, Any]], object]) -> str:
    pod = deepcopy(PRINTED)
    change(pod)
    return print_of(pod, ("sum",))


LESS: dict[str, Callable[[dict[str, Any]], object]] = {  # what a template may lose, so that older pods still have all it says
    "a variable": lambda pod: pod["spec"]["containers"][1].update(env=[]),
    "a container": lambda pod: pod["spec"]["containers"].pop(0),
    "a limit": lambda pod: pod["spec"]["containers"][1].pop("resources"),
    "a label": lambda pod: pod["metadata"]["labels"].pop("role"),
    "an annotation": lambda pod: pod["metadata"]["annotations"].pop("sum"),
}
SAME: dict[str, Callable[[dict[str, Any]], object]] = {
    "a node": lambda pod: pod["spec"].update(nodeName="b"),
    "a node's taints": lambda pod: pod["spec"].update(tolerations=[]),
    "a revision": lambda pod: pod["metadata"]["labels"].update(hash="2"),
    "a network": lambda pod: pod["metadata"]["annotations"].update(cni="10.0.0.2"),
    "a name": lambda pod: (pod["metadata"].update(name="tiny-1"), pod["spec"].update(hostname="tiny-1")),
}


@pytest.mark.parametrize("change", LESS)
def test_a_pod_of_before_is_known_by_what_its_template_lost(change: str) -> None:
    assert printed(LESS[change]) != printed(lambda pod: None)


@pytest.mark.parametrize("change", SAME)
def test_pods_of_one_template_are_alike(change: str) -> None:
    assert printed(SAME[change]) == printed(lambda pod: None)


def test_a_daemon_set_sets_the_affinity_of_its_pods_itself() -> None:
    template = {**LEADER, "spec": {**LEADER["spec"], "affinity": {"nodeAffinity": {"x": "y"}}}}
    assert not made_of(template, POD)
    mine = {**POD, "metadata": {**POD["metadata"], "ownerReferences": [{"kind": "DaemonSet"}]}}
    assert made_of(template, mine)
