"""Exec, logs, waits and bundles against real kubelets. The pods are the host's own shell in the stand's sandbox image."""

import time
from pathlib import Path

import pytest

from hotfire.errors import Unjudged
from hotfire.kube.bundle import collect
from hotfire.kube.client import Cluster, Object
from hotfire.kube.events import EventWatch
from hotfire.kube.exec import run_in
from hotfire.kube.logs import read_log, read_logs
from hotfire.kube.pods import containers, digests, fits, grade
from hotfire.kube.wait import Late, pause, wait_for
from hotfire.stand.embedded import plan
from hotfire.words import Grade

SHELL = {"usr": "/usr", "lib": "/usr/lib", "lib64": "/usr/lib64"}


def shell(namespace: Object, script: str, **container: object) -> Object:
    """A pod that runs the script with the node's own binaries."""
    mounts = [{"name": name, "mountPath": f"/{name}", "readOnly": True} for name in SHELL]
    main = {"name": "main", "image": plan.PAUSE, "command": ["/usr/bin/sh", "-c", script], "volumeMounts": mounts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": namespace["metadata"]["name"]},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": "cpu-1"},
            "containers": [{**main, **container}],
            "volumes": [{"name": name, "hostPath": {"path": path}} for name, path in SHELL.items()],
        },
    }


def healthy(objects: dict[str, Object]) -> Object | None:
    return next((pod for pod in objects.values() if grade(pod).grade is Grade.HEALTHY), None)


def start(cluster: Cluster, pod: Object) -> Object:
    space = pod["metadata"]["namespace"]
    cluster.create(pod)
    return wait_for(cluster, "the pod runs", "v1", "Pod", space, until=healthy, deadline_s=30)


@pytest.fixture
def live(cluster: Cluster, namespace: Object) -> Object:
    return start(cluster, shell(namespace, "echo hello; exec sleep 600"))


def command(cluster: Cluster, live: Object, *argv: str, within: float = 10, stdin: bytes | None = None):
    return run_in(cluster, live["metadata"]["namespace"], "one", "main", argv, deadline_s=within, stdin=stdin)


def test_exec_gives_output_and_exit_code(cluster: Cluster, live: Object) -> None:
    ended = command(cluster, live, "/usr/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.code, ended.stdout, ended.complained) == (7, "out\n", "err\n")
    assert command(cluster, live, "/usr/bin/true").code == 0


def test_exec_passes_stdin_to_its_end(cluster: Cluster, live: Object) -> None:
    assert command(cluster, live, "/usr/bin/wc", "-c", stdin=b"x" * 100_000).stdout.strip() == "100000"


def test_exec_brings_big_output_whole(cluster: Cluster, live: Object) -> None:
    ended = command(cluster, live, "/usr/bin/head", "-c", "3000000", "/dev/zero")
    assert ended.code == 0 and len(ended.stdout) == 3_000_000


def test_exec_past_its_deadline_is_unknown(cluster: Cluster, live: Object) -> None:
    began = time.monotonic()
    ended = command(cluster, live, "/usr/bin/sh", "-c", "echo half; exec sleep 20", within=1)
    assert ended.code is None and ended.said == "half\n" and time.monotonic() - began < 1.5
    with pytest.raises(Unjudged):
        assert ended.stdout


def test_exec_of_what_is_not_there_is_unknown(cluster: Cluster, live: Object) -> None:
    ended = command(cluster, live, "/usr/bin/nonesuch")
    assert ended.code is None and "unable to start container process" in ended.why
    elsewhere = run_in(cluster, live["metadata"]["namespace"], "one", "other", ["/usr/bin/true"], deadline_s=5)
    assert elsewhere.code is None and "other" in elsewhere.why


def test_a_container_that_dies_takes_its_exec_with_it_and_nobody_calls_that_clean(cluster: Cluster, namespace: Object) -> None:
    start(cluster, shell(namespace, "trap 'exit 3' TERM; while :; do sleep 0.1; done"))
    script = "kill 1; exec sleep 20"
    ended = run_in(cluster, namespace["metadata"]["name"], "one", "main", ["/usr/bin/sh", "-c", script], deadline_s=10)
    assert ended.code in (137, None)


def test_a_crash_leaves_its_log_its_reason_and_its_events(cluster: Cluster, namespace: Object, tmp_path: Path) -> None:
    space = namespace["metadata"]["name"]
    with EventWatch(cluster, space) as events:
        cluster.create(shell(namespace, "echo life; sleep 1; exit 4"))

        def crashed(objects: dict[str, Object]) -> Object | None:
            pod = objects.get("one")
            return pod if pod and containers(pod)[0].reason == "CrashLoopBackOff" else None

        pod = wait_for(cluster, "it crashes twice", "v1", "Pod", space, until=crashed, deadline_s=40)
        for _ in range(50):  # events come after the status they speak of
            reasons = {item["reason"] for item in events.about(pod["metadata"]["uid"])}
            if {"Scheduled", "Started"} <= reasons:
                break
            pause(0.1)
    seen = grade(pod)
    assert seen.grade is Grade.DEGRADED and "Error, exit code 4, after" in seen.why
    log = read_log(cluster, pod, "main", previous=True)
    assert log is not None and "life" in log
    assert {"Scheduled", "Started"} <= reasons
    bundle = collect(cluster, space, tmp_path, str)
    assert "life" in (tmp_path / "one.main.previous.log").read_text() and bundle.seconds < 15 and not bundle.left_out
    assert "cpu-1" in (tmp_path / "nodes.txt").read_text()


def test_a_running_pod_shows_its_digest_and_its_log(cluster: Cluster, live: Object) -> None:
    logs = read_logs(cluster, live)
    assert list(logs) == ["one/main"] and logs["one/main"].endswith(" hello\n")
    assert set(digests(live)) == {"main"}


def test_a_pod_no_node_can_take_ends_the_wait_early(cluster: Cluster, namespace: Object) -> None:
    wanted = shell(namespace, "exec sleep 600", resources={"limits": {plan.GPU: "3"}})
    cluster.create(wanted)

    def hopeless(objects: dict[str, Object]) -> str | None:
        nodes, waits = cluster.list("v1", "Node"), [pod for pod in objects.values() if grade(pod).unschedulable]
        answers = [fits(pod, nodes, [], ever=True) for pod in waits]
        return next((", ".join(why) for good, why in answers if not good), None)

    with pytest.raises(Late) as caught:
        wait_for(cluster, "it runs", "v1", "Pod", namespace["metadata"]["name"], until=healthy, deadline_s=30, give_up=hopeless)
    assert caught.value.after_s < 5 and f"without {plan.GPU}" in (caught.value.stopped_early or "")
    assert "Insufficient nvidia.com/gpu" in caught.value.seen["one"]
