"""Pure rules of the rollout: who owns a workload, what may differ, what a PUT carries over."""

import json
from pathlib import Path

import pytest

from hotfire.journal.journal import NEXT
from hotfire.rollout.deploy import carry_over, foreign_annotations
from hotfire.rollout.may_differ import comparable, differences, owners
from hotfire.rollout.owner import last_writer, owner_of
from hotfire.rollout.patience import Patience
from hotfire.rollout.rights import CLOSURE, prerequisite_rights, rights, watchdog_rights
from hotfire.rollout.sync import deployer, syncs, under_way
from hotfire.scenario.model import Located, Scenario
from hotfire.words import State

KUSTOMIZE, RELEASE = "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"
RECONCILING = {"type": "Reconciling", "status": "True", "reason": "Progressing"}


def obj(kind="Deployment", spec=None, **meta):
    meta = {"name": "llama", "resourceVersion": "7", "uid": "u1", **meta}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec or {}}


# -- owner --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "who"),
    [
        ({"labels": {"argocd.argoproj.io/instance": "prod"}}, "Argo CD application prod"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "prod:apps/Deployment:ns/llama"}}, "Argo CD application prod"),
        ({"annotations": {"meta.helm.sh/release-name": "llm"}}, "Helm release llm"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux kustomization apps"),
        ({"managedFields": [{"manager": "helm-controller", "operation": "Apply"}]}, "Flux"),
    ],
)
def test_a_pipeline_that_owns_the_workload_is_named(meta, who):
    assert owner_of(obj(**meta)).startswith(who)


def test_kubectl_and_hand_written_labels_are_no_pipeline():
    labels = {"app.kubernetes.io/managed-by": "us", "app.kubernetes.io/instance": "prod", "app.kubernetes.io/name": "helm"}
    fields = [{"manager": "kubectl-client-side-apply", "operation": "Update"}]
    status = {"manager": "argocd-controller", "operation": "Update", "subresource": "status"}
    assert owner_of(obj(labels=labels, managedFields=[*fields, status])) == ""


def test_who_wrote_last_is_named_status_aside():
    first = {"manager": "hotfire", "time": "2026-11-25T05:00:00Z"}
    then = {"manager": "argocd-controller", "time": "2026-11-25T05:00:09Z"}
    status = {"manager": "kube-controller-manager", "time": "2026-11-25T05:01:00Z", "subresource": "status"}
    assert last_writer(obj(managedFields=[then, first, status])) == "argocd-controller (Argo CD)"
    assert last_writer(obj()) == "an unknown manager"


@pytest.mark.parametrize(
    ("meta", "which"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "prod:apps/Deployment:ns/llama"}}, "Application/argo/prod"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "team_prod:apps/Deployment:ns/llama"}}, "Application/team/prod"),
        ({"labels": {"argocd.argoproj.io/instance": "team_prod"}}, "Application/team/prod"),
        (
            {"labels": {"app.kubernetes.io/instance": "prod"}, "managedFields": [{"manager": "argocd-controller"}]},
            "Application/argo/prod",
        ),
        ({"labels": {"app.kubernetes.io/instance": "prod"}}, None),
        ({"annotations": {"meta.helm.sh/release-name": "llm"}}, None),
        ({"labels": {f"{KUSTOMIZE}/name": "apps", f"{KUSTOMIZE}/namespace": "flux-system"}}, "Kustomization/flux-system/apps"),
        ({"labels": {f"{KUSTOMIZE}/name": "apps", f"{RELEASE}/name": "llm"}}, "HelmRelease/ns/llm"),
    ],
)
def test_the_object_by_which_it_is_deployed_is_found_by_its_marks(meta, which):
    found = deployer(obj(namespace="ns", **meta), "argo")
    assert which == (f"{found.kind}/{found.namespace}/{found.name}" if found else None)


@pytest.mark.parametrize(
    ("kind", "spec", "by_itself"),
    [
        ("Application", {}, False),
        ("Application", {"syncPolicy": {"retry": {"limit": 2}}}, False),
        ("Application", {"syncPolicy": {"automated": {}}}, True),
        ("Application", {"syncPolicy": {"automated": {"enabled": None, "prune": True}}}, True),
        ("Application", {"syncPolicy": {"automated": {"enabled": False, "selfHeal": True}}}, False),
        ("Kustomization", {}, True),
        ("HelmRelease", {"suspend": False}, True),
        ("Kustomization", {"suspend": True}, False),
    ],
)
def test_whether_it_applies_by_itself_is_as_documented(kind, spec, by_itself):
    assert syncs(obj(kind, spec)) is by_itself


@pytest.mark.parametrize(
    ("kind", "rest", "applying"),
    [
        ("Application", {"operation": {"sync": {}}}, True),
        ("Application", {"status": {"operationState": {"phase": "Running"}}}, True),
        ("Application", {"status": {"operationState": {"phase": "Failed"}}}, False),
        ("Kustomization", {"status": {"conditions": [RECONCILING]}}, True),
        ("HelmRelease", {"status": {"conditions": [{**RECONCILING, "reason": "ProgressingWithRetry"}]}}, False),
        ("HelmRelease", {}, False),
    ],
)
def test_a_sync_that_is_still_applying_is_told_from_one_that_waits_for_its_next_try(kind, rest, applying):
    assert under_way({**obj(kind), **rest}) is applying


# -- what may differ ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"resourceVersion": "8"},
        {"generation": 3},
        {"uid": "u2"},
        {"annotations": {"deployment.kubernetes.io/revision": "4"}},
        {"labels": {}},
    ],
)
def test_what_may_differ_is_no_difference(change):
    assert differences(comparable(obj()), comparable(obj(**change))) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"labels": {"a": "b"}}, "metadata.labels: {'a': 'b'} is there, nothing is expected"),
        ({"annotations": {"team": "x"}}, "metadata.annotations"),
        ({"finalizers": ["f"]}, "metadata.finalizers"),
        ({"spec": {"replicas": 2}}, "spec.replicas: 2 is there"),
    ],
)
def test_everything_else_is_a_difference_with_its_path(change, line):
    (found,) = differences(comparable(obj()), comparable(obj(**change)))
    assert line in found


def test_replicas_may_differ_only_where_an_autoscaler_owns_them():
    one, two = obj(spec={"replicas": 1}), obj(spec={"replicas": 2})
    assert differences(comparable(one), comparable(two)) and not differences(comparable(one, True), comparable(two, True))


def test_a_list_that_is_longer_is_a_difference_even_for_a_subset():
    assert differences([1], [1, 2], "ports", subset=True) == ["ports: [1, 2] is there, [1] is expected"]
    assert differences({"a": [{"x": 1}]}, {"a": [{"x": 1, "y": 2}], "b": 1}, subset=True) == []


def test_owners_of_fields_are_compared_without_times_and_status():
    one = {"manager": "kubectl", "operation": "Apply", "fieldsV1": {}}
    status = {"manager": "controller", "operation": "Update", "subresource": "status"}
    assert owners(obj(managedFields=[{**one, "time": "1"}])) == owners(obj(managedFields=[status, {**one, "time": "2"}]))
    assert owners(obj(managedFields=[one])) != owners(obj(managedFields=[{**one, "manager": "hotfire"}]))


# -- carrying over ------------------------------------------------------------------------------------------------


def test_annotations_that_the_last_applied_manifest_wrote_are_not_carried_over():
    applied = json.dumps({"metadata": {"annotations": {"mine": "1"}}})
    live = obj(annotations={"kubectl.kubernetes.io/last-applied-configuration": applied, "mine": "1", "theirs": "2"})
    assert foreign_annotations(obj(), live) == ["kubectl.kubernetes.io/last-applied-configuration", "theirs"]


def test_a_port_keeps_its_node_port_only_where_one_belongs():
    live = obj("Service", {"clusterIP": "198.19.0.9", "ports": [{"port": 80, "nodePort": 30001}]})
    for kind, expected in (("NodePort", 30001), ("ClusterIP", None)):
        new, carried = carry_over(obj("Service", {"type": kind, "ports": [{"port": 80}]}), live, False)
        assert new["spec"]["clusterIP"] == "198.19.0.9" and new["spec"]["ports"][0].get("nodePort") == expected
        assert len(carried) == (2 if expected else 1)


def test_the_manifest_itself_is_never_changed_by_carrying_over():
    manifest = obj("Service", {"ports": [{"port": 80}]})
    before = json.dumps(manifest)
    carry_over(manifest, obj("Service", {"clusterIP": "198.19.0.9", "ports": []}, finalizers=["f"]), False)
    assert json.dumps(manifest) == before


# -- the state machine --------------------------------------------------------------------------------------------


def test_before_the_commit_point_every_state_can_restore_and_after_it_none():
    before = (State.OPEN, State.ARMED, State.APPLYING, State.TESTING, State.RESTORING)
    assert all(State.RESTORING in NEXT[state] for state in before) and NEXT[State.CONFIRMED] == ()
    assert [state for state in State if State.CONFIRMED in NEXT[state]] == [State.TESTING]
    assert set(NEXT) == set(State)


# -- rights -------------------------------------------------------------------------------------------------------


def located() -> Located:
    serves = {"workload": "deployment/llama", "service": "llama", "runtime": "tiny", "model": "m"}
    words = {"apiVersion": "hotfire/v1", "kind": "Scenario", "name": "a", "about": "a", "stand": {"namespace": "n"}}
    scenario = Scenario.model_validate({**words, "candidate": {"serves": [serves]}})
    return Located(scenario=scenario, path=Path("s.yaml"), objects=(obj(),), digest="")


def test_the_whole_closure_may_be_seen_and_put_back_and_no_claim_is_ever_written():
    asked = located()
    for granted in (rights(asked), watchdog_rights(asked)):
        verbs = {}
        for right in granted:
            verbs.setdefault(right.resource, set()).add(right.verb)
        kinds = {resource for _, resource in CLOSURE.values()} - {"persistentvolumeclaims"}
        assert all({"get", "list", "create", "update"} <= verbs[kind] for kind in kinds)
        assert verbs["persistentvolumeclaims"] == {"get", "list"} and len(granted) == len(set(map(str, granted)))


def test_a_prerequisite_may_be_read_where_it_lies():
    """`hotfire rbac` knows no cluster: the resource of a kind is a guess."""
    one = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
    two = {"apiVersion": "kueue.x-k8s.io/v1", "kind": "Policy", "metadata": {"name": "p", "namespace": "shared"}}
    found = prerequisite_rights(located().model_copy(update={"prerequisites": (one, two)}))
    seen = [(str(right), right.namespaced, right.namespace) for right in found]
    assert seen == [("get storageclasses.storage.k8s.io", False, ""), ("get policies.kueue.x-k8s.io", True, "shared")]


def test_a_wait_is_said_once_it_lasts_and_again_when_it_has_become_another() -> None:
    said: list[str] = []
    patience = Patience(said.append)
    patience("landed: 1 of 2")
    assert said == []
    patience.since -= 20
    for why in ("landed: 1 of 2", "landed: 1 of 2", "traffic: none"):
        patience(why)
    assert said == ["waiting for 20 s: landed: 1 of 2", "waiting for 20 s: traffic: none"]
