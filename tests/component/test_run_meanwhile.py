"""What others do to a run while it goes: its journal or its namespace is deleted, a second run comes. Each is said."""

import time

import pytest

from hotfire.kube.client import Ref
from hotfire.kube.wait import pause
from hotfire.words import State
from tests.planted_run import WORKLOAD, Ground, planted_suite

SEES = "saw('serving-pod', 1)"
DELETES = (
    "from hotfire.kube.client import Cluster, Ref; cluster = Cluster.connect({kubeconfig!r}); "
    "live = cluster.get(Ref('v1', {kind!r}, {space!r}, {name!r})); cluster.delete(Ref.of(live), uid=live['metadata']['uid']); "
)


def deleting(ground: Ground, kind: str, space: str, name: str) -> str:
    return DELETES.format(kubeconfig=str(ground.kubeconfig), kind=kind, space=space, name=name) + SEES


def test_without_its_journal_nobody_knows_the_way_back_and_it_is_unsafe(ground: Ground) -> None:
    ground.plant(planted_suite(deleting(ground, "ConfigMap", ground.namespace, "hotfire-deployment-tiny")))
    ended = ground.run()
    assert (ended.code, ended.verdict["verdict"]) == (22, "UNSAFE"), ended.output
    assert "hotfire-deployment-tiny" in str(ended.verdict["because"]) + ended.output and ground.journal is None


def test_a_namespace_that_goes_under_the_run_is_never_go_and_never_made_again(ground: Ground) -> None:
    ground.plant(planted_suite(deleting(ground, "Namespace", "", ground.namespace)))
    ended = ground.run()
    assert ended.code in (21, 22) and ended.verdict["verdict"] != "GO" and "Traceback" not in ended.output, ended.output
    live = ground.cluster.get(Ref("v1", "Namespace", "", ground.namespace))
    assert "deletionTimestamp" in live["metadata"]


@pytest.mark.parametrize("wait", [(), ("--hotfire-wait", "60s")], ids=["refused", "waits"])
def test_of_two_runs_at_once_one_goes_first_and_does_not_notice(ground: Ground, wait: tuple[str, ...]) -> None:
    ground.plant(planted_suite(f"__import__('time').sleep(5); {SEES}"))
    first = ground.start()
    deadline = time.monotonic() + 30
    while ground.journal is None or ground.journal.state is not State.OPEN:
        assert time.monotonic() < deadline
        pause(0.1)
    second = ground.run(*wait)
    assert first.wait(60) == 21 and ground.ended_well, (ground.folder / "first").read_text()
    assert (second.code, len(ground.reports)) == ((21, 2) if wait else (4, 1)), second.output
    assert f"{WORKLOAD} in {ground.namespace} is held by run planted-" in second.output and "Traceback" not in second.output
