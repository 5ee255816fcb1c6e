"""The embedded stand and the machine: one at a time, over any remains, without a trace. Takes the session's stand away."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotfire.stand.embedded import build, lifecycle, machine, network, plan, processes
from hotfire.stand.embedded.leftovers import Machine
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.embedded.manager import EmbeddedManager
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.plan import Stand

ALONE = Stand(name="alone")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "hotfire.stand.commands", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_up_on_a_running_stand_changes_nothing(embedded: Running) -> None:
    before = processes.recorded(embedded.stand.state / "pids")
    asked = ("--name", embedded.stand.name, "--gpus-per-node", str(embedded.stand.gpus_per_node))
    assert command("up", *asked).returncode == 0
    assert processes.recorded(embedded.stand.state / "pids") == before


def test_a_second_stand_is_refused_in_one_line_that_names_the_holder(embedded: Running) -> None:
    told = command("up", "--name", "second")
    assert told.returncode == 4
    assert len(told.stderr.splitlines()) == 1
    api = processes.recorded(embedded.stand.state / "pids")["apiserver"]
    assert f"'{embedded.stand.name}' runs on this machine (pid {api.pid}, since " in told.stderr


def test_status_tells_nodes_and_memory(embedded: Running) -> None:
    told = command("status", "--name", embedded.stand.name)
    assert told.returncode == 0
    assert told.stdout.count(": Ready") == 3 and "apiserver" in told.stdout


@pytest.fixture
def bare(embedded: Running):
    """The machine without the session's stand; whatever the test left is taken away too."""
    lifecycle.down(embedded.stand)
    yield
    lifecycle.down(ALONE)


@pytest.mark.destructive
def test_down_leaves_nothing_that_was_not_there_before(bare: None) -> None:
    before = Machine.look()
    assert command("up", "--name", ALONE.name).returncode == 0
    assert len(before.changes(Machine.look())) > 50  # the witness sees a stand that runs
    assert command("down", "--name", ALONE.name).returncode == 0
    assert before.changes(Machine.look()) == []


MOMENTS: dict[str, Callable[[], bool]] = {
    "the machine was declared ours": machine.OWNER.exists,
    "a network namespace was there": lambda: bool(network.namespaces()),
    "etcd was started": (ALONE.state / "pids" / "etcd").exists,
    "a node was started": (ALONE.state / "pids" / "node-gpu-1").exists,
    "the kubelets were let go": (ALONE.state / "go").exists,
    "a pod's view was furnished": (ALONE.state / "nodes/gpu-2/var-lib/kubelet/pods").exists,
}


@pytest.mark.destructive
@pytest.mark.parametrize("moment", MOMENTS)
def test_up_starts_over_what_a_killed_up_left(bare: None, moment: str) -> None:
    before = Machine.look()
    argv = [sys.executable, "-m", "hotfire.stand.commands", "up", "--name", ALONE.name]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until(moment, MOMENTS[moment], 30, every=0.001)
        child.send_signal(signal.SIGKILL)
    found = lifecycle.up(ALONE)
    with found.api() as api:
        assert api.nodes() == {"gpu-1": True, "gpu-2": True, "cpu-1": True}
    lifecycle.down(ALONE)
    assert before.changes(Machine.look()) == []


@pytest.mark.destructive
def test_down_ends_what_a_killed_down_began(bare: None) -> None:
    before = Machine.look()
    lifecycle.up(ALONE)
    argv = [sys.executable, "-m", "hotfire.stand.commands", "down", "--name", ALONE.name]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until("it has begun", lambda: (found := machine.owner()) and found.phase == "stopping", 10, every=0.001)
        child.send_signal(signal.SIGKILL)
    assert len(before.changes(Machine.look())) > 10
    assert lifecycle.down(ALONE)
    assert before.changes(Machine.look()) == []


@pytest.mark.destructive
def test_up_starts_over_a_stand_whose_control_plane_was_killed(bare: None) -> None:
    found = lifecycle.up(ALONE)
    for process in processes.recorded(ALONE.state / "pids").values():
        subprocess.run(["kill", "-9", str(process.pid)], check=True)
    until("the killed are gone", lambda: (holder := machine.owner()) is None or not holder.alive, 10)
    with lifecycle.up(Stand(name="other")).api() as api:
        assert api.devices() == {"gpu-1": 2, "gpu-2": 2, "cpu-1": 0}
    assert not found.kubeconfig.exists()
    lifecycle.down(Stand(name="other"))


@pytest.fixture
def official() -> Iterator[Path]:
    """A folder that holds every binary, as an unpacked release does: links to those that were built."""
    with tempfile.TemporaryDirectory(dir=plan.cache()) as folder:  # a link does not leave its disk
        for name, file in build.binaries(None, print).items():
            os.link(file, Path(folder, name))
        yield Path(folder)


@pytest.mark.destructive
def test_binaries_given_to_up_replace_those_of_a_running_stand(official: Path, bare: None) -> None:
    lifecycle.up(ALONE)
    for _ in range(2):  # the second time they are what runs
        told = command("up", "--name", ALONE.name, "--binaries", str(official))
        assert told.returncode == 0, told.stderr
        there = processes.recorded(ALONE.state / "pids").items()
        runs = {name: Path(f"/proc/{each.pid}/exe").readlink() for name, each in there if not name.startswith("node-")}
        assert runs["apiserver"] == official / "kube-apiserver" and {file.parent for file in runs.values()} == {official}
    assert "clearing" not in told.stderr


@pytest.mark.destructive
def test_a_control_plane_alone_answers_without_nodes(bare: None) -> None:
    found = lifecycle.up(Stand(name=ALONE.name, control_plane_only=True))
    with found.api() as api:
        assert api.get("/readyz") and api.nodes() == {}


@pytest.mark.destructive
@pytest.mark.k8s(provider="embedded", cluster_name="hotfire")
def test_pytest_kubernetes_gets_the_stand_behind_its_k8s_fixture(bare: None, k8s: EmbeddedManager) -> None:
    k8s.create()
    assert len(k8s.kubectl(["get", "nodes"])["items"]) == 3
    given = Path(str(k8s.kubeconfig))
    k8s.delete()
    assert not given.exists() and not (plan.RUN / "pytest-hotfire").exists()
