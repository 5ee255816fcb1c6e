"""Workloads of a kind whose controller hotfire does not know: what a scenario must say of them, and which pods are theirs."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from hotfire.kube.client import Cluster
from hotfire.rollout.revision import marked, marks
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
        ("{workload: Deployment.v1.apps/tiny, pods: 'a=b', ready: 1, service: tiny", "is written deployment/tiny"),
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


# -- which pods are of the spec of now -----------------------------------------------------------------------------------


class Revisions:
    """An API server that knows ControllerRevisions alone."""

    def __init__(self, *kept: dict[str, Any]) -> None:
        self.kept = kept

    def list(self, api_version: str, kind: str, namespace: str) -> Sequence[dict[str, Any]]:
        assert (api_version, kind, namespace) == ("apps/v1", "ControllerRevision", "ns")
        return self.kept


WORKLOAD = {**SET, "metadata": {"name": "tiny", "namespace": "ns", "uid": "u"}}
TEMPLATE: dict[str, Any] = SET["spec"]["leaderWorkerTemplate"]


def revision(number: int, template: dict[str, Any] = TEMPLATE, uid: str = "u", **labels: str) -> dict[str, Any]:
    meta = {"name": f"tiny-{number}", "labels": {"role": "leader", "x/template-revision-hash": f"h{number}", **labels},
            "ownerReferences": [{"controller": True, "uid": uid}]}  # fmt: skip
    held = {"spec": {"leaderWorkerTemplate": {**template, "$patch": "replace"}}}
    return {"metadata": meta, "revision": number, "data": held}


def known(*kept: dict[str, Any], workload: dict[str, Any] = WORKLOAD) -> frozenset[str]:
    return marks(cast(Cluster, Revisions(*kept)), workload)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    template: dict[str, Any] = deepcopy(TEMPLATE)
    change(template["leaderTemplate"]["spec"]["containers"][0])
    return template


def test_pods_of_the_newest_revision_are_the_spec_of_now() -> None:
    found = known(revision(1, changed(lambda one: one.update(args=["--old"]))), revision(2))
    assert found == {"tiny-2", "h2"}
    pods = [{"metadata": {"labels": {"x/template-revision-hash": mark, "role": "leader"}}} for mark in ("h1", "h2")]
    assert [marked(pod, found, WORKLOAD) for pod in pods] == [False, True]
    assert marked({"metadata": {"labels": {"controller-revision-hash": "tiny-2"}}}, found, WORKLOAD)  # OpenKruise's, by name
    assert not marked({"metadata": {"labels": {"role": "h2"}}}, found, WORKLOAD)  # a label of the template tells nothing


STALE: dict[str, Callable[[dict[str, Any]], object]] = {  # what the newest revision has, and the spec has no longer, or not yet
    "another image": lambda one: one.update(image="x@sha256:1"),
    "a variable more": lambda one: one.update(env=[{"name": "MORE", "value": "1"}]),
    "a limit less": lambda one: one.pop("resources"),
    "an argument more": lambda one: one["args"].append("--more"),
}


@pytest.mark.parametrize("change", STALE)
def test_a_controller_that_has_not_acted_has_no_pods_of_the_spec(change: str) -> None:
    assert known(revision(1, changed(STALE[change]))) == frozenset()


def test_a_size_around_the_templates_counts_and_what_the_controller_leaves_out_does_not() -> None:
    assert known(revision(1, {**TEMPLATE, "size": 4})) == frozenset()
    left_out = {**WORKLOAD, "spec": {**SET["spec"], "networkConfig": {"subdomainPolicy": "Shared"}}}
    assert known(revision(1), workload=left_out)


def test_without_a_history_nothing_is_known() -> None:
    assert known() == known(revision(1, uid="another's")) == frozenset()
    assert known({**revision(1), "data": None}) == frozenset()
