"""Promise 4 on real kubelets: whoever dies in between, the namespace ends exactly old; seen by kubectl and a plain request."""

import json
import signal
import subprocess
import time
from typing import Any

from hotfire.journal.journal import Journal
from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.job import ACCOUNT, WATCHES
from tests.neighbour import neighbour

runs = neighbour("tests/stand/test_run")


def journal(cluster: Cluster, place: Any) -> Journal:
    found = Journal.read(cluster, place.name, "deployment/tiny")
    assert found is not None
    return found


def ends(cluster: Cluster, place: Any, within: float = 40) -> Journal:
    """Without any command: the journal is a tombstone, and Job and pods of the watchdog are gone."""
    deadline = time.monotonic() + within
    while True:
        found = journal(cluster, place)
        left = [*cluster.list("batch/v1", "Job", place.name), *cluster.list("v1", "Pod", place.name, labels=WATCHES)]
        if found.ended and not left:
            return found
        assert time.monotonic() < deadline, (found.body, [obj["metadata"]["name"] for obj in left], watched(cluster, place))
        pause(0.3)


def watched(cluster: Cluster, place: Any) -> str:
    pods = cluster.list("v1", "Pod", place.name, labels=WATCHES)
    return "\n".join(place.kubectl("logs", pod["metadata"]["name"]) for pod in pods)


def old(place: Any, before: Any, within: float = 10) -> None:
    """Pods that are leaving may be there for a moment longer."""
    deadline = time.monotonic() + within
    while (now := place.serving()) != before:
        assert time.monotonic() < deadline, now
        pause(0.3)


def test_armed_the_watchdog_restores_and_the_run_proves(place, armed, new, cluster) -> None:
    before = place.serving()
    ended = place.ended(*called(place, armed(runs.service(), new("--ttft", "1200ms"))))
    assert ended.code == 20, ended.output
    assert ">armed: watchdog " in (ended.folder / "certificate.html").read_text()
    assert journal(cluster, place).ended and "watchdog/hotfire-watchdog-" in (ended.folder / "record.jsonl").read_text()
    old(place, before)
    assert cluster.list("batch/v1", "Job", place.name) == [] and place.lease() == ""


def called(place: Any, command: list[str]) -> tuple[int, str]:
    process = runs.started(place, command, "load: ")
    process.wait(120)
    return process.returncode, (place.folder / "output.txt").read_text()


def test_armed_the_watchdog_rehearses_and_watches_on(place, armed, new, cluster) -> None:
    rollback = {"within": "60s", "soak": "1s", "rehearse": True}
    command = armed(runs.service(), new(), scenario={"rollback": rollback})
    ended = place.ended(*called(place, command))
    assert (ended.code, ended.check("rollback.rehearsed")["outcome"]) == (0, "PASS"), ended.output
    moved = [(event["state"], event["by"]) for event in ended.events if event["type"] == "changed"]
    (by,) = [by for state, by in moved if state == "RESTORING"]
    assert by.startswith("watchdog/hotfire-watchdog-") and moved[-1][0] == "CONFIRMED" and place.ask().startswith("new")


def test_sigkill_right_after_a_rehearsal_ends_exactly_old_without_any_command(place, armed, new, cluster) -> None:
    before = place.serving()
    rollback = {"within": "60s", "soak": "1s", "rehearse": True}
    command = armed(runs.service(), new(), scenario={"rollback": rollback})
    process = runs.started(place, command, "state RESTORED (rehearsal)")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert (ends(cluster, place).body.state, place.lease()) == ("RESTORED", "")
    old(place, before)


def test_sigkill_in_mid_load_ends_exactly_old_without_any_command(place, armed, new, cluster) -> None:
    before = place.serving()
    process = runs.started(place, armed(runs.service(), new(), scenario=runs.LONG), "load: ")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    ended = ends(cluster, place)
    assert (ended.body.state, ended.body.last_verdict) == ("RESTORED", "INCONCLUSIVE"), ended.body
    old(place, before)
    assert before["answers"].startswith("old") and place.lease() == ""


def test_the_next_run_waits_for_the_watchdog_and_goes_on(place, armed, new, cluster) -> None:
    process = runs.started(place, armed(runs.service(), new(), scenario=runs.LONG), "load: ")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    dead = journal(cluster, place).body.run
    command = [*armed(runs.service(), new()), "--wait", "90s"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0 and "waiting: deployment/tiny" in ended.stdout, ended.stdout + ended.stderr
    assert f"run {dead}" in ended.stdout and journal(cluster, place).body.last_verdict == "GO" and place.ask().startswith("new")


def test_a_watchdog_that_is_evicted_while_it_restores_is_followed(place, armed, new, cluster) -> None:
    before = place.serving()
    process = runs.started(place, armed(runs.service(), new(), scenario=runs.LONG), "load: ")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    deadline = time.monotonic() + 20
    while journal(cluster, place).state != "RESTORING":
        assert time.monotonic() < deadline
        pause(0.1)
    (pod,) = cluster.list("v1", "Pod", place.name, labels=WATCHES)
    cluster.delete(Ref.of(pod), uid=pod["metadata"]["uid"], grace=0)
    assert ends(cluster, place, 60).body.last_verdict == "INCONCLUSIVE"
    old(place, before)


def test_sigterm_hands_over_and_the_proof_is_seen(place, armed, new, cluster) -> None:
    before = place.serving()
    process = runs.started(place, armed(runs.service(), new(), scenario=runs.LONG), "load: ")
    process.send_signal(signal.SIGTERM)
    process.wait(90)
    ended = place.ended(process.returncode, (place.folder / "output.txt").read_text())
    assert (ended.code, ended.verdict["record"]["interrupted"]) == (21, True), ended.output
    body = journal(cluster, place).body
    assert (body.asked, body.state) == ("HANDED_OVER", "RESTORED")
    old(place, before)


def test_a_watchdog_without_its_account_is_refused_before_anything(place, armed, new, cluster) -> None:
    command = armed(runs.service(), new())
    place.kubectl("delete", "serviceaccount", ACCOUNT)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    says = f"the watchdog's Pod is refused in {place.name}: "
    assert ended.returncode == 4 and says in ended.stderr and f'"{ACCOUNT}" not found' in ended.stderr, ended.stderr
    assert Journal.read(cluster, place.name, "deployment/tiny") is None


def test_a_watchdog_that_cannot_run_keeps_the_candidate_out(place, armed, new, cluster) -> None:
    """No registry has its image: said by the kubelet, and nothing is changed."""
    before = json.loads(place.kubectl("get", "deployment", "tiny", "-o", "json"))["metadata"]["generation"]
    *command, image = armed(runs.service(), new())
    process = runs.started(place, [*command, f"{image.partition('@')[0]}@sha256:{'0' * 64}"], "way back: ")
    process.wait(60)
    ended = place.ended(process.returncode, (place.folder / "output.txt").read_text())
    assert ended.code == 21 and "the way back is not armed" in ended.output, ended.output
    assert ">not armed: watchdog " in (ended.folder / "certificate.html").read_text()
    assert json.loads(place.kubectl("get", "deployment", "tiny", "-o", "json"))["metadata"]["generation"] == before
    assert cluster.list("batch/v1", "Job", place.name) == []


def home(cluster: Cluster, place: Any, gone: str) -> Journal:
    """Of a run that made its namespace: Lease, journal and watchdog are in the place."""
    found = Journal.read(cluster, place.name, "deployment/tiny", gone)
    assert found is not None
    return found


def test_an_armed_run_ends_its_own_namespace_by_the_watchdog(place, armed, new, cluster, gone, own) -> None:
    before = place.serving()
    ended = place.ended(*called(place, armed(runs.service(), new(), scenario=own)))
    assert (ended.code, ended.check("drill.returns")["outcome"]) == (0, "PASS"), ended.output
    by = [event["by"] for event in ended.events if event["type"] == "changed" and event["state"] == "RESTORING"]
    assert by and by[0].startswith("watchdog/hotfire-watchdog-") and home(cluster, place, gone).ended
    assert cluster.find(Ref("v1", "Namespace", "", gone)) is None
    old(place, before)


def test_sigkill_of_an_armed_run_takes_its_own_namespace_away_without_any_command(
    place, armed, new, cluster, gone, own
) -> None:
    before = place.serving()
    process = runs.started(place, armed(runs.service(), new(), scenario={**own, **runs.LONG}), "load: ")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    deadline = time.monotonic() + 60
    while not home(cluster, place, gone).body.last_verdict:
        assert time.monotonic() < deadline, (home(cluster, place, gone).body, watched(cluster, place))
        pause(0.3)
    ended = home(cluster, place, gone)
    assert (ended.ended, ended.body.last_verdict) == (True, "INCONCLUSIVE")
    assert cluster.find(Ref("v1", "Namespace", "", gone)) is None
    old(place, before)
