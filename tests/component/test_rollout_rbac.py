"""The Role that `hotfire rbac` prints is enough for a run, for its way back, and for every command after it."""

import pytest

from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.rbac import RUNNER, rbac
from hotfire.rollout.rights import rights
from hotfire.rollout.rollout import Rollout
from hotfire.rollout.status import describe
from hotfire.rollout.sweep import sweep
from hotfire.rollout.takeover import abort, resume
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from hotfire.words import Decision, State, Verdict
from tests.planted_run import Ground, planted_suite

PERSON = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
MORE = {"mode": "promote", "users": "none"}


@pytest.fixture
def granted(ground: Ground, reader: Cluster) -> Located:
    """The scenario; `reader` has what the owner would apply for its run, and nothing else."""
    ground.plant(planted_suite(), MORE)
    located = load(ground.folder / "scenario.yaml")
    for obj in rbac(located, ground.namespace, RUNNER):
        if obj["kind"] != "ServiceAccount":
            bound: Object = {"subjects": [PERSON]} if "subjects" in obj else {}
            ground.cluster.create({**obj, **bound})
    right = rights(located)[0]
    while not reader.can(right.verb, right.resource, group=right.group, namespace=ground.namespace):
        pause(0.1)
    return located


def test_with_the_printed_role_a_whole_run_comes_to_its_decision(control_plane, ground: Ground, granted) -> None:
    ground.kubeconfig = control_plane.kubeconfig("reader")
    ended = ground.run()
    assert ended.decided[0] == "CONFIRM" and ground.ended_well, ended.output


def test_with_the_printed_role_a_run_changes_restores_and_leaves_nothing(ground: Ground, reader: Cluster, granted) -> None:
    rollout = Rollout.open(reader, granted, ground.namespace, "run-a", emit=lambda event: None)
    rollout.arm(can_ask=False)
    rollout.apply()
    ending = rollout.settle(Decision.ROLL_BACK, "a gate failed")
    rollout.close(Verdict.NO_GO)
    assert (ending.state, ending.unproven) == (State.RESTORED, []) and ground.ended_well
    assert sweep(reader, ground.namespace, 0, tell=lambda line: None) == []


@pytest.mark.parametrize("command", [abort, resume])
def test_with_the_printed_role_a_dead_run_is_brought_to_its_end(ground: Ground, reader: Cluster, granted, command) -> None:
    rollout = Rollout.open(reader, granted, ground.namespace, "run-a", emit=lambda event: None)
    rollout.arm(can_ask=False)
    rollout.apply()
    rollout.lease._stop.set()
    assert "run-a is at it" in describe(reader, ground.namespace)[0]
    ending = command(reader, ground.namespace, tell=lambda line: None)
    assert (ending.state, ending.unproven) == (State.RESTORED, []) and ground.ended_well
    assert ground.cluster.find(Ref("v1", "Service", ground.namespace, "tiny")) is None
