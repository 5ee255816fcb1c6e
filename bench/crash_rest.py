"""Beside the kills: a closure of every kind that was changed and taken back, by hotfire and by `kubectl rollout undo`; what the
owner's next apply finds to do; and the points of the proof, each made false on purpose."""

import copy
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparer
from crash_world import WORKLOAD, Object, Place, Process, baseline, candidate, manifest

Cell = dict[str, Any]
ROOT = Path(__file__).parents[1]
PROOF = "tests/component/test_rollout_proof.py"
MUTANT = "test_a_point_made_false_is_caught_by_that_point"
RUN_S = 240.0


def around(which: str) -> list[Object]:
    """What surrounds the workload, in one of two versions."""
    new = which == "new"
    select = {"matchLabels": {"app": WORKLOAD}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": WORKLOAD}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 90 - 10 * new}},
    }
    account = manifest(
        "v1", "ServiceAccount", "runner", imagePullSecrets=[{"name": "registry"}, *([{"name": "api"}] if new else [])]
    )
    ingress = [{"from": [{"podSelector": {}}]}, *([{"ports": [{"port": 9000}]}] if new else [{}])]
    return [
        account,
        manifest("policy/v1", "PodDisruptionBudget", WORKLOAD, spec={"maxUnavailable": 1 + new, "selector": select}),
        manifest("autoscaling/v2", "HorizontalPodAutoscaler", WORKLOAD,
                 spec={"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 1 + new, "metrics": [metric]}),
        manifest("networking.k8s.io/v1", "NetworkPolicy", WORKLOAD,
                 spec={"podSelector": select, "policyTypes": ["Ingress"], "ingress": [{}, *ingress]}),
    ]  # fmt: skip


def whole(objects: list[Object], which: str) -> list[Object]:
    made = copy.deepcopy(objects)
    made[-1]["spec"]["template"]["spec"]["serviceAccountName"] = "runner"
    made[-1]["spec"]["template"]["metadata"]["annotations"] = {"version": which}
    return [*around(which), *made]


def _given(place: Place) -> None:
    place.kubectl("apply", "-f", "-", given=whole(baseline(place.world.image, place.name), "old"))
    _settled(place)
    place.before = place.look()


def _settled(place: Place) -> None:
    place.kubectl("rollout", "status", f"deployment/{WORKLOAD}", "--timeout=90s")
    for _ in range(60):
        if not comparer.population(place.look()):
            return
        time.sleep(0.5)
    raise RuntimeError(f"the pods did not settle: {comparer.population(place.look())}")


def residual(before: list[Object], after: list[Object], *, fields: bool) -> list[str]:
    """Objects that are not as they were. fields: also where only their ownership differs."""
    was, now = comparer.intended(before), comparer.intended(after)
    return sorted(
        "/".join(one)
        for one in was.keys() | now.keys()
        if one not in was
        or one not in now
        or comparer.differences(was[one], now[one], autoscaled=one == ("Deployment", WORKLOAD))
        or (fields and comparer.ownership(was[one]) != comparer.ownership(now[one]))
    )


def by_hotfire(place: Place, cell: str) -> Cell:
    """A candidate that changes nine kinds is rolled back by its own run."""
    _given(place)
    flags = ("--start-after", "300s")
    given = whole(candidate(place.world.image, place.name, *flags), "new")
    run = Process.start(place, cell, "late", given=given)
    code = run.wait(RUN_S)
    after = place.look()
    left = residual(place.before, after, fields=True)
    bad = [*left, *comparer.population(after), *comparer.orphans(place.before, after)]
    bad += [] if code == 20 else [f"exit {code}, 20 is right: {run.log.read_text()[-1500:]}"]
    changed = len(comparer.intended(given))
    return {"said": f"exit {code}, {changed} objects", "bad": bad, "spoilt": True,
            "figures": {"restoration_residual": len(left), "restoration_objects": changed}}  # fmt: skip


def by_kubectl(place: Place, cell: str) -> Cell:
    """The same change by kubectl apply, and `kubectl rollout undo`."""
    _given(place)
    place.kubectl("apply", "-f", "-", given=whole(candidate(place.world.image, place.name), "new"))
    _settled(place)
    place.kubectl("rollout", "undo", f"deployment/{WORKLOAD}")
    _settled(place)
    left = residual(place.before, place.look(), fields=False)
    return {"said": f"left changed: {', '.join(left)}", "bad": [], "spoilt": True,
            "figures": {"restoration_residual_kubectl_undo": len(left)}}  # fmt: skip


def next_apply(*server_side: str) -> Callable[[Place, str], Cell]:
    def cell_of(place: Place, cell: str) -> Cell:
        """After a rollback the owner applies again what was applied before: nothing changes, nobody conflicts."""
        place.kubectl(
            "delete", "deployment,configmap,service,secret", "settings", "api", WORKLOAD, "--ignore-not-found", "--wait"
        )
        mine = whole(baseline(place.world.image, place.name), "old")
        place.kubectl("apply", *server_side, "-f", "-", given=mine)
        _settled(place)
        place.before = place.look()
        flags = ("--start-after", "300s")
        run = Process.start(place, cell, "late", given=whole(candidate(place.world.image, place.name, *flags), "new"))
        code = run.wait(RUN_S)
        restored = place.look()
        diff = place.kubectl("diff", *server_side, "-f", "-", given=mine, check=False)
        said = place.kubectl("apply", *server_side, "-f", "-", given=mine, check=False)
        after = place.look()
        changed = residual(restored, after, fields=True)
        was, now = comparer.intended(restored), comparer.intended(after)
        changed += [f"{'/'.join(one)} generation" for one in was.keys() & now.keys()
                    if was[one]["metadata"].get("generation") != now[one]["metadata"].get("generation")]  # fmt: skip
        conflicts = [line for line in said.stderr.splitlines() if "conflict" in line.lower()]
        bad = [*changed, *conflicts, *(diff.stdout.splitlines() if diff.returncode else ())][:30]
        bad += [] if said.returncode == 0 else [f"kubectl apply: exit {said.returncode}: {said.stderr[-300:]}"]
        bad += [] if code == 20 else [f"exit {code}, 20 is right: {run.log.read_text()[-1500:]}"]
        key = "owner_conflicts_server_side" if server_side else "owner_conflicts_client_side"
        count = len(changed) + len(conflicts) + bool(diff.returncode)
        return {"said": f"diff {diff.returncode}, {len(mine)} objects", "bad": bad, "spoilt": True, "figures": {key: count}}

    return cell_of


def proof_mutants(place: Place, cell: str) -> Cell:
    """Counted from the test's own report."""
    file = place.folder / "proof.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={file}", PROOF, "-k", MUTANT]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    cases = [case for case in ElementTree.parse(file).iter("testcase") if str(case.get("name")).startswith(MUTANT)]
    caught = [case for case in cases if not list(case)]
    bad = [str(case.get("name")) for case in cases if case not in caught]
    bad += [] if cases else [f"no mutant was tried: {ended.stdout[-500:]}"]
    share = {"proof_mutants_caught_share": len(caught) / len(cases), "proof_mutants": len(cases)} if cases else {}
    return {"said": f"{len(caught)} of {len(cases)}", "bad": bad, "figures": share}


REST: dict[str, dict[str, Callable[[Place, str], Cell]]] = {
    "closure": {"hotfire": by_hotfire, "kubectl-rollout-undo": by_kubectl},
    "owner": {"apply": next_apply(), "server-side": next_apply("--server-side")},
    "proof": {"mutants": proof_mutants},
}
