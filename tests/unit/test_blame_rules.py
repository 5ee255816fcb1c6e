"""Blame by rule on evidence: each row of the table, and that nobody is blamed on a guess."""

from typing import Any

import pytest

from hotfire.gates.blame import RULES, Facts, attribute
from hotfire.scenario.model import Scheduling
from hotfire.words import Blame

GPU = "ai.workload=inference:NoSchedule"
ASKED = Scheduling.model_validate({"devices": {"nvidia.com/gpu": 1}, "nodes": {"accelerator": "gpu"}, "tolerates": [GPU]})
TAINT = {"key": "ai.workload", "value": "inference", "effect": "NoSchedule"}


def node(**conditions: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "gpu-a", "labels": {"accelerator": "gpu"}},
        "spec": {"taints": [TAINT]},
        "status": {
            "allocatable": {"nvidia.com/gpu": "2", "cpu": "1", "memory": "4Gi"},
            "conditions": [{"type": kind, "status": status} for kind, status in ({"Ready": "True"} | conditions).items()],
        },
    }


def pod(*, on: str = "", gpus: int = 1, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus), "memory": "1Gi"}
    base = {
        "containers": [{"name": "engine", "resources": {"limits": limits}}],
        "nodeSelector": {"accelerator": "gpu"},
        "tolerations": [{"key": "ai.workload", "operator": "Exists"}],
        **({"nodeName": on} if on else {}),
    }
    return {"metadata": {"name": "p"}, "spec": base | spec, "status": {"containerStatuses": [status] if status else []}}


def ended(reason: str, code: int = 1, **more: Any) -> dict[str, Any]:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"name": "engine", "state": waiting, "lastState": {"terminated": {"reason": reason, "exitCode": code}}, **more}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"name": "engine", "state": {"waiting": {"reason": reason, "message": message}}}


def blame(one: dict[str, Any], nodes: list[dict[str, Any]] | None = None, **more: Any) -> tuple[Blame, str]:
    return attribute(Facts.of_pod(one, ASKED, [node()] if nodes is None else nodes, **more))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpus": 4}, "devices"),
        ({"nodeSelector": {"accelerator": "h200"}}, "node selection"),
        ({"nodeSelector": {"accelerator": "gpu", "zone": "x"}}, "node selection"),
        ({"tolerations": []}, f"tolerations differ from scheduling.tolerates: {GPU} is missing"),
        ({"tolerations": [{"key": "ai.workload", "value": "training"}]}, "tolerations"),
    ],
)
def test_a_pod_that_waits_for_what_was_not_declared_is_the_candidates(change: dict[str, Any], says: str) -> None:
    found, rule = blame(pod(**change))
    assert found is Blame.CANDIDATE and says in rule


def test_a_pod_that_waits_for_what_was_declared_and_fits_is_the_platforms() -> None:
    assert blame(pod())[0] is Blame.PLATFORM


def test_a_pod_that_waits_where_nothing_ever_fitted_is_unknown() -> None:
    assert blame(pod(), [])[0] is Blame.UNKNOWN
    assert blame(pod(), [{**node(), "spec": {"unschedulable": True}}])[0] is Blame.UNKNOWN


def test_more_memory_than_any_node_has_is_the_candidates() -> None:
    engine = {"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "5000Mi"}}}
    assert blame(pod(containers=[engine])) == (Blame.CANDIDATE, "it asks for more memory than any node has")


def test_node_affinity_counts_as_selection() -> None:
    rule = {"key": "accelerator", "operator": "In", "values": ["gpu"]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}
    assert Facts.of_pod(pod(nodeSelector={}, affinity={"nodeAffinity": required}), ASKED, [node()]).differs == ()


@pytest.mark.parametrize(
    ("message", "control", "whose"),
    [
        ("registry/x@sha256:0: not found", None, Blame.CANDIDATE),
        ("unauthorized", True, Blame.CANDIDATE),
        ("unauthorized", False, Blame.PLATFORM),
        ("dial tcp: i/o timeout", False, Blame.PLATFORM),
        ("dial tcp: i/o timeout", None, Blame.UNKNOWN),
    ],
)
def test_a_failed_pull_is_blamed_by_the_control_pull(message: str, control: bool | None, whose: Blame) -> None:
    assert blame(pod(on="gpu-a", status=waiting("ErrImagePull", message)), baseline_pulls=control)[0] is whose


def test_a_container_that_died_by_itself_is_the_candidates_and_the_rule_says_how() -> None:
    assert blame(pod(on="gpu-a", status=ended("Error", 3))) == (Blame.CANDIDATE, "engine ended by Error with exit code 3")
    found = blame(pod(on="gpu-a", status=ended("OOMKilled", 137)))
    assert found == (Blame.CANDIDATE, "engine was OOMKilled at its own limit of 1Gi")


def test_an_oom_kill_without_a_limit_of_its_own_blames_nobody() -> None:
    bare = [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    assert blame(pod(on="gpu-a", containers=bare, status=ended("OOMKilled", 137)))[0] is Blame.UNKNOWN


@pytest.mark.parametrize("unwell", [{"Ready": "False"}, {"Ready": "Unknown"}, {"MemoryPressure": "True"}])
def test_a_container_that_died_on_an_unwell_node_is_the_platforms(unwell: dict[str, str]) -> None:
    assert blame(pod(on="gpu-a", status=ended("OOMKilled", 137)), [node(**unwell)])[0] is Blame.PLATFORM


def test_a_death_beside_an_outage_or_on_a_node_that_is_gone_is_the_platforms() -> None:
    died = pod(on="gpu-a", status=ended("Error"))
    assert blame(died, platform=("the API did not answer for 40 s",)) == (Blame.PLATFORM, "the API did not answer for 40 s")
    assert blame({**died, "spec": {**died["spec"], "nodeName": "gpu-z"}})[1] == "node gpu-z is gone"


def test_an_evicted_pod_is_the_platforms() -> None:
    one = pod(on="gpu-a", status=ended("Error", 143))
    one["status"] |= {
        "reason": "Evicted",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "Preempted"}],
    }
    assert blame(one)[0] is Blame.PLATFORM


def test_a_spec_that_cannot_be_run_and_a_probe_that_never_says_ready_are_the_candidates() -> None:
    missing = waiting("CreateContainerConfigError", "couldn't find key token in Secret")
    running = {"name": "engine", "ready": False, "state": {"running": {}}}
    assert blame(pod(on="gpu-a", status=missing))[0] is Blame.CANDIDATE
    assert blame(pod(on="gpu-a", status=running))[0] is Blame.CANDIDATE


def test_a_pod_that_is_being_made_blames_nobody() -> None:
    assert blame(pod(on="gpu-a", status=waiting("ContainerCreating")))[0] is Blame.UNKNOWN


@pytest.mark.parametrize(
    ("facts", "whose"),
    [
        (Facts(slo="p95 900 ms", client_sound=True), Blame.CANDIDATE),
        (Facts(slo="p95 900 ms", client_sound=False), Blame.HARNESS),
        (Facts(slo="p95 900 ms", client_sound=None), Blame.UNKNOWN),
        (Facts(slo="p95 900 ms", client_sound=True, platform=("node lost",)), Blame.PLATFORM),
        (Facts(died="exit 1", ours="our own probe pod was evicted"), Blame.HARNESS),
        (Facts(), Blame.UNKNOWN),
    ],
)
def test_an_objective_is_the_candidates_only_if_the_client_was_sound_and_the_platform_quiet(facts: Facts, whose: Blame) -> None:
    assert attribute(facts)[0] is whose


def test_an_unsound_client_is_never_held_against_the_candidate() -> None:
    for pull, died, pending in [(a, b, c) for a in ("", "not found") for b in ("", "x") for c in (True, False)]:
        facts = Facts(pull=pull, died=died, pending=pending, differs=("x",), slo="y", client_sound=False)
        assert attribute(facts)[0] is Blame.HARNESS


def test_every_rule_says_something_and_none_gives_unknown() -> None:
    assert all(blame is not Blame.UNKNOWN for _, blame, _ in RULES)
