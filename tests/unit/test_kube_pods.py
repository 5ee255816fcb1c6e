"""Grades and fits: from the objects alone, as the API server shows them."""

from typing import Any

import pytest

from hotfire.kube.fit import requests
from hotfire.kube.pods import containers, digests, fits, grade, line_of, owned_by
from hotfire.words import Grade

Object = dict[str, Any]
GPU = {"nvidia.com/gpu": "1"}
BACK_OFF = 'Back-off pulling image "x": ErrImagePull: rpc error: code = {}'


def pod(state: Object | None = None, *, node: str = "gpu-1", ready: bool = False, **more: Any) -> Object:
    """A pod of one container `llama`; `more` goes over its container status."""
    status = {"name": "llama", "state": state or {"running": {}}, "ready": ready, "restartCount": 0, **more}
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-11-24T13:02:11Z"}]
    return {
        "kind": "Pod",
        "metadata": {"name": "llama-0", "namespace": "n", "uid": "u0"},
        "spec": {"nodeName": node, "containers": [{"name": "llama"}]},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [status]},
    }


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def death(reason: str, code: int, seconds: int) -> Object:
    times = {"startedAt": "2026-11-24T13:00:00Z", "finishedAt": f"2026-11-24T13:00:{seconds:02}Z"}
    return {"terminated": {"reason": reason, "exitCode": code, **times}}


def test_a_ready_pod_is_healthy_and_says_since_when_and_where() -> None:
    seen = grade(pod(ready=True))
    assert (seen.grade, seen.line) == (Grade.HEALTHY, "serving since 13:02:11 on gpu-1")


def test_an_unschedulable_pod_carries_the_schedulers_words() -> None:
    one = pod(node="")
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes:\n no GPU"}
    one["status"] = {"phase": "Pending", "conditions": [said]}
    seen = grade(one)
    assert (seen.grade, seen.unschedulable, seen.line) == (Grade.DEGRADED, True, "DEGRADED: Pending: 0/3 nodes: no GPU")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (waiting("ContainerCreating"), Grade.STARTING),
        (waiting("ErrImagePull", "not found"), Grade.DEGRADED),
        (waiting("ImagePullBackOff", BACK_OFF.format("NotFound desc = x: not found")), Grade.TERMINAL),
        (waiting("ImagePullBackOff", BACK_OFF.format("Unknown desc = 401 Unauthorized")), Grade.TERMINAL),
        (waiting("ImagePullBackOff", BACK_OFF.format("Unknown desc = dial tcp: connection refused")), Grade.DEGRADED),
        (waiting("ImagePullBackOff", BACK_OFF.format("Unknown desc = lookup r: no such host")), Grade.DEGRADED),
        (waiting("InvalidImageName"), Grade.TERMINAL),
        (waiting("CreateContainerConfigError", "couldn't find key token in Secret n/hf"), Grade.TERMINAL),
        (waiting("CreateContainerConfigError", 'secret "hf" not found'), Grade.DEGRADED),
        (waiting("CrashLoopBackOff"), Grade.DEGRADED),
        ({"running": {}}, Grade.STARTING),
    ],
)
def test_only_what_no_restart_can_clear_is_terminal(state: Object, expected: Grade) -> None:
    assert grade(pod(state)).grade is expected


@pytest.mark.parametrize(
    ("last", "restarts", "expected"),
    [
        (death("OOMKilled", 137, 2), 2, Grade.TERMINAL),
        (death("OOMKilled", 137, 2), 1, Grade.DEGRADED),
        (death("OOMKilled", 137, 45), 5, Grade.DEGRADED),
        (death("Error", 1, 2), 9, Grade.DEGRADED),
    ],
)
def test_a_limit_that_kills_at_start_again_and_again_is_terminal(last: Object, restarts: int, expected: Grade) -> None:
    seen = grade(pod(waiting("CrashLoopBackOff"), lastState=last, restartCount=restarts))
    assert seen.grade is expected
    assert f"exit code {last['terminated']['exitCode']}" in seen.line and f"{restarts} restarts" in seen.line


def test_terminating_and_ended_pods_are_never_healthy() -> None:
    leaving = pod(ready=True)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T13:05:00Z"
    ended = pod(death("OOMKilled", 137, 9))
    ended["status"]["phase"] = "Failed"
    assert grade(leaving).line == "DEGRADED: terminating since 2026-11-24T13:05:00Z"
    assert grade(ended).line == "TERMINAL: Failed llama OOMKilled, exit code 137, after 9s"


def test_one_bad_container_spoils_a_ready_looking_pod() -> None:
    one = pod(ready=True)
    one["spec"]["containers"].append({"name": "proxy"})
    one["status"]["containerStatuses"].append({"name": "proxy", "state": waiting("CrashLoopBackOff")})
    assert grade(one).grade is Grade.DEGRADED and grade(one).why.startswith("proxy CrashLoopBackOff")


def test_digests_come_from_what_runs_and_are_empty_until_it_is_known() -> None:
    assert digests(pod(imageID="r.example/llama@sha256:ab")) == {"llama": "sha256:ab"}
    assert digests(pod(imageID="")) == {"llama": ""}
    assert [one.name for one in containers(pod())] == ["llama"]


def test_ownership_is_by_uid_of_the_controller() -> None:
    one = pod()
    one["metadata"]["ownerReferences"] = [{"uid": "rs1", "controller": True}, {"uid": "anchor"}]
    assert owned_by(one, {"metadata": {"uid": "rs1"}})
    assert not owned_by(one, {"metadata": {"uid": "anchor"}})


def test_other_kinds_get_a_line_of_their_conditions() -> None:
    job = {"kind": "Job", "metadata": {}, "status": {"failed": 1, "conditions": [{"type": "Failed", "status": "True"}]}}
    assert line_of(job) == "failed 1; Failed True"


# -- fits -------------------------------------------------------------------------------------------------------------


def node(name: str = "gpu-1", gpus: int = 1, **more: Any) -> Object:
    offered = {"cpu": "4", "memory": "8Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    labels = {"accelerator": "gpu"} if gpus else {}
    spec = {"taints": [{"key": "ai.workload", "value": "inference", "effect": "NoSchedule"}], **more}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": offered}}


def asking(uid: str = "new", resources: Object | None = None, **spec: Any) -> Object:
    container = {"name": "c", "resources": {"limits": {**GPU, "memory": "1Gi"} if resources is None else resources}}
    tolerations = [{"key": "ai.workload", "operator": "Exists"}]
    meta = {"name": uid, "namespace": "n", "uid": uid, "labels": {"app": "llama"}}
    return {"metadata": meta, "spec": {"containers": [container], "tolerations": tolerations, **spec}}


def test_a_pod_fits_where_selector_taints_and_devices_agree() -> None:
    assert fits(asking(nodeSelector={"accelerator": "gpu"}), [node("cpu-1", 0), node()], []) == (
        True, ["1 without label accelerator=gpu", "1 without nvidia.com/gpu"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"nodeSelector": {"accelerator": "tpu"}}, "1 without label accelerator=tpu"),
        ({"tolerations": []}, "1 taint ai.workload=inference not tolerated"),
        ({"tolerations": [{"key": "ai.workload", "value": "train", "effect": "NoSchedule"}]}, "1 taint ai.workload=inference"),
        ({"nodeName": "gpu-9"}, "1 not the node it names"),
        ({"resources": {"nvidia.com/gpu": "2"}}, "1 too small in nvidia.com/gpu"),
        ({"resources": {"amd.com/gpu": "1"}}, "1 without amd.com/gpu"),
        ({"resources": {"memory": "9Gi"}}, "1 too small in memory"),
    ],
)
def test_what_keeps_a_pod_off_a_node_is_named(changed: Object, said: str) -> None:
    good, reasons = fits(asking(**changed), [node()], [])
    assert not good and reasons[0].startswith(said)


def test_a_terminating_pod_holds_its_device_until_it_is_gone() -> None:
    holder = asking("old", nodeName="gpu-1")
    holder["metadata"]["deletionTimestamp"] = "2026-11-24T13:05:00Z"
    assert fits(asking(), [node()], [holder]) == (False, ["1 full in nvidia.com/gpu"])
    holder["status"] = {"phase": "Succeeded"}
    assert fits(asking(), [node()], [holder])[0]


def test_what_time_may_clear_counts_now_but_not_for_ever() -> None:
    sick = node(unschedulable=True, taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    assert fits(asking(), [sick], []) == (False, ["1 cordoned", "1 taint node.kubernetes.io/not-ready not tolerated"])
    assert fits(asking(), [sick], [], ever=True)[0]


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ({"key": "accelerator", "operator": "In", "values": ["gpu"]}, True),
        ({"key": "accelerator", "operator": "NotIn", "values": ["gpu"]}, False),
        ({"key": "accelerator", "operator": "DoesNotExist"}, False),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "zone", "operator": "Exists"}, False),
        ({"key": "accelerator", "operator": "Gt", "values": ["1"]}, False),
    ],
)
def test_node_affinity_follows_the_six_operators(rule: Object, good: bool) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert fits(asking(affinity=affinity), [node()], [])[0] is good


def test_anti_affinity_keeps_two_of_a_kind_apart() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "llama"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    other = asking("old", {}, nodeName="gpu-1")
    assert not fits(asking(affinity=affinity), [node(gpus=2)], [other])[0]
    assert fits(asking(affinity=affinity), [node(gpus=2), node("gpu-2")], [other])[0]


def test_requests_are_the_sum_or_the_biggest_init_container() -> None:
    one = asking(resources={"cpu": "500m"}, overhead={"cpu": "100m"})
    sidecar = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "250m"}}}
    one["spec"]["initContainers"] = [sidecar, {"name": "i", "resources": {"requests": {"cpu": "2"}}}]
    assert float(requests(one)["cpu"]) == pytest.approx(2.35)
    one["spec"]["initContainers"].pop()
    assert float(requests(one)["cpu"]) == pytest.approx(0.85)


def test_without_nodes_nothing_fits() -> None:
    assert fits(asking(), [], []) == (False, [])
