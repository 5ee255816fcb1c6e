"""A workload that is neither Deployment nor StatefulSet, on real kubelets: a DaemonSet, known by its pods alone."""

import json
from typing import Any

import yaml

from hotfire.kube.client import Ref
from tests.place import SCENARIO, Place, deployment, service

SERVES = {"workload": "DaemonSet.v1.apps/daemon", "service": "daemon", "runtime": "tiny", "model": "m",
          "pods": "app=daemon", "ready": 2}  # fmt: skip
CANDIDATE = {"candidate": {"manifests": "manifests/", "serves": [SERVES]}}


def daemons(image: str, *flags: str) -> dict[str, Any]:
    """One pod on each of the two nodes with devices, both replaced at once."""
    made = deployment(image, *flags, name="daemon")
    spec = {key: made["spec"][key] for key in ("selector", "template")}
    spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    return {**made, "kind": "DaemonSet", "spec": spec}


def served(place: Place) -> dict[str, Any]:
    """By kubectl: the spec, what its pods run, and who wrote which field."""
    live = json.loads(place.kubectl("get", "daemonset", "daemon", "--show-managed-fields", "-o", "json"))
    pods = json.loads(place.kubectl("get", "pods", "-l", "app=daemon", "-o", "json"))["items"]
    owners = [{**one, "time": ""} for one in live["metadata"]["managedFields"] if "subresource" not in one]
    return {"spec": live["spec"], "owners": owners, "args": sorted(str(pod["spec"]["containers"][0]["args"]) for pod in pods)}


def serving(place: Place) -> dict[str, Any]:
    place.apply(service("daemon"), daemons(place.image, "--answer", "old old old old"))
    place.kubectl("rollout", "status", "daemonset/daemon", "--timeout=60s")
    return served(place)


def test_a_sound_daemon_set_is_confirmed(place: Place, tiny: str) -> None:
    serving(place)
    ended = place.run(service("daemon"), daemons(tiny, "--answer", "new new new new"), scenario=CANDIDATE)
    assert (ended.code, ended.verdict["verdict"]) == (0, "GO"), ended.output
    assert "not in it: what the controller of daemonset/daemon makes of its spec" in ended.output
    assert all("new new" in args for args in served(place)["args"]) and len(served(place)["args"]) == 2


def test_a_slow_daemon_set_is_rolled_back_by_its_watchdog(place: Place, armed: Any, tiny: str) -> None:
    before = serving(place)
    command = armed(service("daemon"), daemons(tiny, "--answer", "new new new new", "--ttft", "1200ms"), scenario=CANDIDATE)
    ended = place.go(command)
    assert (ended.code, ended.check("load.slo[e2e-p80]")["blame"]) == (20, "candidate"), ended.output
    assert served(place) == before
    assert "watchdog/hotfire-watchdog-" in (ended.folder / "record.jsonl").read_text()


def test_certified_a_daemon_set_goes_comes_back_and_leaves_nothing(
    place: Place, tiny: str, own: Any, gone: str, cluster: Any
) -> None:
    ended = place.run(service("daemon"), daemons(tiny, "--answer", "new new new new"), scenario=own | CANDIDATE)
    assert (ended.code, ended.check("drill.returns")["outcome"]) == (0, "PASS"), ended.output
    assert cluster.find(Ref("v1", "Namespace", "", gone)) is None


def test_a_baseline_that_is_not_at_rest_is_refused_before_anything_is_changed(place: Place, tiny: str) -> None:
    """Its pods are of an older revision: put back, its spec would not be what runs."""
    place.apply(service("daemon"), daemons(place.image, "--answer", "old old old old"))
    place.kubectl("rollout", "status", "daemonset/daemon", "--timeout=60s")
    left_alone = daemons(place.image, "--answer", "older older older older")
    left_alone["spec"]["updateStrategy"] = {"type": "OnDelete"}
    place.apply(left_alone)
    before = served(place)
    ended = place.run(service("daemon"), daemons(tiny), scenario=CANDIDATE)
    said = str(ended.check("rollback.feasible"))
    assert ended.code == 21 and "not of its newest revision" in said and "OnDelete" in said, ended.output
    assert served(place) == before


def test_old_pods_are_never_taken_for_the_candidates(place: Place, tiny: str) -> None:
    """They are Ready, answer and have all that the new template says, which has a variable less; nobody replaces them."""
    more = daemons(place.image, "--answer", "old old old old")
    more["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "MORE", "value": "1"})
    place.apply(service("daemon"), more)
    place.kubectl("rollout", "status", "daemonset/daemon", "--timeout=60s")
    before, left_alone = served(place), daemons(tiny, "--answer", "old old old old")
    left_alone["spec"]["updateStrategy"] = {"type": "OnDelete"}
    scheduling = {**yaml.safe_load(SCENARIO)["scheduling"], "within": "5s"}
    ended = place.run(service("daemon"), left_alone, scenario={**CANDIDATE, "scheduling": scheduling})
    assert (ended.code, ended.verdict["verdict"]) == (21, "INCONCLUSIVE"), ended.output
    assert "0 of 2 pods scheduled" in str(ended.check("scheduling.within")) and served(place) == before
