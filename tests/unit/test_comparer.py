"""The judge of the crash matrix (bench/comparer.py) and hotfire's own list of what may differ agree on 30 pairs."""

from copy import deepcopy

import pytest

from hotfire.rollout.may_differ import comparable, owners
from tests.neighbour import ROOT, neighbour

comparer = neighbour("bench/comparer")

GENERATION = "deprecated.daemonset.template.generation"
REVISION = "deployment.kubernetes.io/revision"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def made(kind, body, api="v1"):
    meta = {"name": "llama", "namespace": "ns", "uid": "u1", "resourceVersion": "7", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "llama"},
            "annotations": {REVISION: "1", APPLIED: "{}", "team": "serving"}, "finalizers": ["a/b"],
            "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": api, "time": "2026-01-01T00:00:00Z",
                               "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
                              {"manager": "kcm", "operation": "Update", "apiVersion": api, "subresource": "status",
                               "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}}]}  # fmt: skip
    return {"apiVersion": api, "kind": kind, "metadata": meta, **deepcopy(body)}


CONTAINER = {"name": "s", "image": "i@sha256:1", "args": ["--a", "1"], "env": [], "resources": {"limits": {"memory": "1Mi"}}}
TEMPLATE = {"metadata": {"labels": {"app": "llama"}}, "spec": {"containers": [CONTAINER], "nodeSelector": {}}}
DEPLOYMENT = made(
    "Deployment", {"spec": {"replicas": 2, "paused": False, "template": TEMPLATE}, "status": {"replicas": 2}}, "apps/v1"
)
SERVICE = made("Service", {"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}], "selector": {"app": "llama"}}})
SETTINGS = made("ConfigMap", {"data": {"BATCH": "8"}})
SECRET = made("Secret", {"data": {"k": "djE="}, "type": "Opaque"})
CLAIM = made("PersistentVolumeClaim", {"spec": {"resources": {"requests": {"storage": "1Gi"}}}})
ACCOUNT = made("ServiceAccount", {"imagePullSecrets": [{"name": "r"}]})
BUDGET = made("PodDisruptionBudget", {"spec": {"minAvailable": 1}}, "policy/v1")
POLICY = made("NetworkPolicy", {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}, "networking.k8s.io/v1")
GONE = object()


def edited(obj, value, *path):
    """The object with another value at a path; GONE takes it away."""
    new = deepcopy(obj)
    at = new
    for step in path[:-1]:
        at = at[step] if isinstance(at, list) else at.setdefault(step, {})
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return new


FIELDS = ("metadata", "managedFields")
PAIRS = [  # what may differ: both must say `the same`
    (True, "nothing", DEPLOYMENT, deepcopy(DEPLOYMENT)),
    (True, "resourceVersion", SETTINGS, edited(SETTINGS, "9", "metadata", "resourceVersion")),
    (True, "generation", DEPLOYMENT, edited(DEPLOYMENT, 4, "metadata", "generation")),
    (True, "uid", SERVICE, edited(SERVICE, "u2", "metadata", "uid")),
    (True, "creation", SERVICE, edited(SERVICE, "2026-02-01T00:00:00Z", "metadata", "creationTimestamp")),
    (True, "status", DEPLOYMENT, edited(DEPLOYMENT, {"replicas": 0}, "status")),
    (True, "no status", DEPLOYMENT, edited(DEPLOYMENT, GONE, "status")),
    (True, "revision", DEPLOYMENT, edited(DEPLOYMENT, "5", "metadata", "annotations", REVISION)),
    (True, "template generation", *(edited(DEPLOYMENT, n, "metadata", "annotations", GENERATION) for n in "13")),
    (True, "no revision", DEPLOYMENT, edited(DEPLOYMENT, GONE, "metadata", "annotations", REVISION)),
    (True, "empty ownerReferences", SETTINGS, edited(SETTINGS, [], "metadata", "ownerReferences")),
    (True, "times of fields", DEPLOYMENT, edited(DEPLOYMENT, "2026-03-01T00:00:00Z", *FIELDS, 0, "time")),
    (True, "fields of the status", DEPLOYMENT, edited(DEPLOYMENT, {"f:status": {"f:x": {}}}, *FIELDS, 1, "fieldsV1")),
    (True, "a bound claim", CLAIM, edited(CLAIM, "pv-1", "spec", "volumeName")),
    (True, "the binder's mark", CLAIM, edited(CLAIM, "yes", "metadata", "annotations", "pv.kubernetes.io/bind-completed")),
    # what may not: both must say `another`
    (False, "replicas", DEPLOYMENT, edited(DEPLOYMENT, 3, "spec", "replicas")),
    (False, "image", DEPLOYMENT, edited(DEPLOYMENT, "i@sha256:2", "spec", "template", "spec", "containers", 0, "image")),
    (False, "order", DEPLOYMENT, edited(DEPLOYMENT, ["1", "--a"], "spec", "template", "spec", "containers", 0, "args")),
    (False, "a restart mark", DEPLOYMENT, edited(DEPLOYMENT, {"x": "y"}, "spec", "template", "metadata", "annotations")),
    (False, "paused", DEPLOYMENT, edited(DEPLOYMENT, True, "spec", "paused")),
    (False, "a label more", SERVICE, edited(SERVICE, "v", "metadata", "labels", "hotfire.dev/run")),
    (False, "a label less", SERVICE, edited(SERVICE, GONE, "metadata", "labels", "app")),
    (False, "last-applied", SERVICE, edited(SERVICE, '{"a":1}', "metadata", "annotations", APPLIED)),
    (False, "an owner", SETTINGS, edited(SETTINGS, [{"uid": "u9", "name": "a"}], "metadata", "ownerReferences")),
    (False, "a finalizer", SETTINGS, edited(SETTINGS, [], "metadata", "finalizers")),
    (False, "leaving", SETTINGS, edited(SETTINGS, "2026-02-01T00:00:00Z", "metadata", "deletionTimestamp")),
    (False, "configuration", SETTINGS, edited(SETTINGS, "16", "data", "BATCH")),
    (False, "a Secret's value", SECRET, edited(SECRET, "djI=", "data", "k")),
    (False, "a port", SERVICE, edited(SERVICE, 81, "spec", "ports", 0, "port")),
    (False, "a pull secret", ACCOUNT, edited(ACCOUNT, [], "imagePullSecrets")),
    (False, "a budget", BUDGET, edited(BUDGET, 0, "spec", "minAvailable")),
    (False, "a policy", POLICY, edited(POLICY, {"matchLabels": {"app": "x"}}, "spec", "podSelector")),
    (False, "fields of another manager", DEPLOYMENT, edited(DEPLOYMENT, "hotfire", *FIELDS, 0, "manager")),
    (False, "a claim's size", CLAIM, edited(CLAIM, "2Gi", "spec", "resources", "requests", "storage")),
]  # fmt: skip


@pytest.mark.parametrize(("same", "before", "after"), [pair[:1] + pair[2:] for pair in PAIRS], ids=[pair[1] for pair in PAIRS])
def test_both_lists_agree(same, before, after):
    theirs = comparable(before) == comparable(after) and owners(before) == owners(after)
    ours = comparer.differences(before, after) == [] and comparer.ownership(before) == comparer.ownership(after)
    assert (theirs, ours) == (same, same), comparer.differences(before, after)


def test_both_lists_agree_on_replicas_that_an_autoscaler_owns():
    other = edited(DEPLOYMENT, 3, "spec", "replicas")
    assert comparable(DEPLOYMENT, scaled=True) == comparable(other, scaled=True)
    assert comparer.differences(DEPLOYMENT, other, autoscaled=True) == []


def test_there_are_thirty_pairs_and_the_judge_borrows_nothing_of_hotfire():
    lines = (ROOT / "bench" / "comparer.py").read_text().splitlines()
    assert len(PAIRS) >= 30 and "hotfire" not in {line.split()[1].split(".")[0] for line in lines
                                                  if line.startswith(("import ", "from "))}  # fmt: skip


def test_a_difference_of_a_secret_is_named_without_its_value():
    (line,) = comparer.differences(SECRET, edited(SECRET, "djI=", "data", "k"))
    assert line == "Secret/llama data.k"


def test_a_namespace_is_old_new_or_neither():
    """On objects as kubectl prints them: a Deployment with its ReplicaSet and pod, and what a run may leave."""
    one = edited(DEPLOYMENT, 1, "spec", "replicas")
    owner = {"uid": "u1", "controller": True}
    hashed = edited(TEMPLATE, "h1", "metadata", "labels", "pod-template-hash")
    replicas = {"kind": "ReplicaSet", "metadata": {"name": "llama-h1", "uid": "r1", "ownerReferences": [owner]},
                "spec": {"template": hashed}}  # fmt: skip
    made_by = [{"uid": "r1", "controller": True}]
    pod = {"kind": "Pod", "metadata": {"name": "llama-h1-x", "uid": "p1", "ownerReferences": made_by},
           "status": {"conditions": [{"type": "Ready", "status": "True"}]}}  # fmt: skip
    before = [one, SETTINGS, replicas, pod]
    assert comparer.not_old(before, deepcopy(before)) == [] == comparer.orphans(before, before)
    new = [edited(one, True, "spec", "paused"), SETTINGS, replicas, pod]
    assert comparer.not_old(before, new) != [] and comparer.not_new(before, new, [new[0]]) == []
    left = edited(edited(SERVICE, "run-1", "metadata", "labels", "hotfire.dev/run"), "reach", "metadata", "name")
    assert comparer.orphans(before, [*before, left]) == ["Service/reach carries the label of run run-1"]
    lease = {"kind": "Lease", "metadata": {"name": "hotfire-x"}, "spec": {"holderIdentity": "run-1"}}
    assert comparer.orphans(before, [*before, lease]) == ["Lease/hotfire-x is held by run-1"]
    assert comparer.population([one, replicas]) == ["Deployment/llama has 0 pods, 1 are asked for"]
