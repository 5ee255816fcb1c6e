"""Pipeline mode on real kubelets: `arm`, a plain `kubectl apply` as the pipeline, `verify`, `settle`; seen by kubectl."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hotfire.kube.client import Cluster
from tests.neighbour import neighbour

dogs = neighbour("tests/stand/test_watchdog")
runs = dogs.runs
place, tiny, new, own_image, armed = runs.place, runs.tiny, runs.new, dogs.own_image, dogs.armed
ends, journal, old = dogs.ends, dogs.journal, dogs.old


@dataclass
class Run:
    """One run, command by command."""

    place: Any
    armed: Callable[..., list[str]]
    folder: Path = Path()

    def arm(self, *objects: Any, **scenario: Any) -> None:
        """Of a candidate that only its manifests hold yet."""
        command = self.armed(*objects, scenario={"rollout": {"by": "pipeline", **scenario.pop("rollout", {})}, **scenario})
        command[command.index("run")] = "arm"
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (self.folder,) = (self.place.folder / "reports").glob("tiny-*")
        assert f"`hotfire verify reports/{self.folder.name}`" in ended.stdout, ended.stdout

    def command(self, word: str) -> list[str]:
        return [sys.executable, "-m", "hotfire.cli", word, str(self.folder), "--kubeconfig", self.place.kubeconfig]

    def does(self, word: str) -> tuple[int, str]:
        ended = subprocess.run(self.command(word), capture_output=True, text=True, timeout=240, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    @property
    def ended(self) -> Any:
        return self.place.ended(0, "")


@pytest.fixture
def run(place: Any, armed: Callable[..., list[str]]) -> Iterator[Run]:
    yield Run(place, armed)


def test_a_sound_candidate_that_kubectl_applied_is_confirmed(place, run: Run, new, cluster: Cluster) -> None:
    run.arm(runs.service(), new())
    assert place.lease().startswith("watchdog/") and place.ask().startswith("old")
    place.apply(runs.service(), new())
    code, said = run.does("verify")
    assert code == 0 and "PASS deploy.exact" in said and place.lease().startswith("watchdog/"), said
    code, said = run.does("settle")
    assert code == 0 and run.ended.verdict["verdict"] == "GO", said
    assert place.ask().startswith("new") and place.lease() == "" and journal(cluster, place).ended
    states = [event["state"] for event in run.ended.events if event["type"] == "changed"]
    assert states == ["ARMED", "WAITING", "TESTING", "WAITING", "TESTING", "CONFIRMED"]
    judged = subprocess.run([sys.executable, "-m", "hotfire.cli", "judge", str(run.folder)], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
    assert cluster.list("batch/v1", "Job", place.name) == [] and "unchanged" in place.kubectl(
        "apply", "-f", str(place.folder / "manifests" / "all.yaml")
    )
    assert run.does("settle")[0] == 0


def test_a_slow_one_is_restored_and_its_pipelines_next_apply_changes_nothing(place, run: Run, new, cluster: Cluster) -> None:
    before, baseline = place.serving(), place.kubectl("get", "deployment", "tiny", "-o", "yaml")
    run.arm(runs.service(), new("--ttft", "1200ms"))
    place.apply(runs.service(), new("--ttft", "1200ms"))
    assert run.does("verify")[0] == 1
    code, said = run.does("settle")
    assert (code, run.ended.check("load.slo[e2e-p80]")["blame"]) == (20, "candidate"), said
    old(place, before)
    assert "last-applied" in baseline and journal(cluster, place).body.state == "RESTORED"
    place.apply(runs.service(), runs.deployment(place.image, "--answer", "old old old old"))
    assert place.serving() == before


def test_nobody_deploys_and_the_watchdog_closes_the_run_with_nothing_changed(place, run: Run, new, cluster: Cluster) -> None:
    def written() -> Any:
        found = json.loads(place.kubectl("get", "deployment,service", "-o", "json"))["items"]
        pods = json.loads(place.kubectl("get", "pods", "-l", "app=tiny", "-o", "json"))["items"]
        return [one["metadata"]["resourceVersion"] for one in found], [one["metadata"]["uid"] for one in pods]

    before = written()
    run.arm(runs.service(), new(), rollout={"deploy_by": "5s"})
    ended = ends(cluster, place)
    assert (ended.body.state, ended.body.last_verdict, written()) == ("RESTORED", "INCONCLUSIVE", before)
    assert run.does("verify")[0] == 4 and run.does("settle")[0] == 21


def test_a_verify_that_was_killed_is_restored_like_a_killed_run(place, run: Run, new, cluster: Cluster) -> None:
    before = place.serving()
    run.arm(runs.service(), new(), **runs.LONG)
    place.apply(runs.service(), new())
    process = runs.started(place, run.command("verify"), "load: ")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    code, said = run.does("settle")
    assert code == 21 and ends(cluster, place).body.state == "RESTORED", said
    old(place, before)


def test_what_the_manifests_do_not_say_is_not_verified(place, run: Run, new, cluster: Cluster) -> None:
    """Another build than the one that was armed for: nobody's GO, and not the candidate's NO_GO."""
    before = place.serving()
    run.arm(runs.service(), new())
    place.apply(runs.service(), new("--ttft", "1ms"))
    code, said = run.does("verify")
    assert code == 1 and "FAIL deploy.exact" in said and "blame: platform" in said, said
    assert run.does("settle")[0] == 21
    old(place, before)
