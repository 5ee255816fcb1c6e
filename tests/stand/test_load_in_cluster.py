"""The load from a pod beside the candidate: the same samples, brought home with their digest, and nothing of it left."""

import hashlib
import json
import time
from typing import Any

import pytest

from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from hotfire.load.samples import read
from hotfire.stand.images import push
from tests.neighbour import neighbour

runs = neighbour("tests/stand/test_run")


@pytest.fixture(scope="session")
def load_image(embedded, terminal) -> str:
    return push(embedded.registry, "hotfire-load", terminal)


def scenario(place: Any, load_image: str, **load: Any) -> dict[str, Any]:
    asked = {"arrivals": "spaced 200ms", "warm_up": 2, "max_tokens": 4, "timeout": "8s", "from": "cluster", **load}
    return {
        "stand": {"namespace": place.name, "accelerators": "simulated", "load_image": load_image},
        "load": {key: value for key, value in asked.items() if value is not None},
    }


def loaded(ended: Any) -> dict[str, Any]:
    return dict(next(event for event in ended.events if event["type"] == "loaded"))


def nothing_left(cluster: Cluster, place: Any) -> bool:
    pods = cluster.list("v1", "Pod", place.name, labels="hotfire.dev/purpose=load")
    return cluster.list("batch/v1", "Job", place.name) == pods == []


def test_a_load_from_the_cluster_is_a_job_whose_samples_come_home(place, new, load_image: str, cluster: Cluster) -> None:
    ended = place.run(runs.service(), new(), scenario=scenario(place, load_image))
    assert (ended.code, ended.verdict["verdict"]) == (0, "GO"), ended.output
    event = loaded(ended)
    file = ended.folder / event["samples"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == event["samples_digest"] and len(read(file)) >= 23
    assert event["served_by"]["how"] == "response header x-served-by" and sum(event["served_by"]["pods"].values()) == len(
        read(file)
    )
    assert event["client"]["stamps"] == "kernel" and nothing_left(cluster, place)


def test_a_pod_of_the_load_that_dies_makes_the_run_inconclusive(place, new, load_image: str, cluster: Cluster) -> None:
    before = place.serving()
    asked = scenario(place, load_image) | runs.LONG
    process = runs.started(place, place.command(runs.service(), new(), scenario=asked), "load: ")
    (pod,) = cluster.list("v1", "Pod", place.name, labels="hotfire.dev/purpose=load")
    cluster.delete(Ref.of(pod), uid=pod["metadata"]["uid"], grace=0)
    process.wait(90)
    ended = place.ended(process.returncode, (place.folder / "output.txt").read_text())
    found = ended.check("load.slo[e2e-p95]")
    assert (ended.code, found["outcome"], found["reason"]) == (21, "INVALID", "client-unsound"), json.dumps(found)
    assert "the load carrier ended with" in found["message"] and place.serving() == before and nothing_left(cluster, place)


def test_the_load_dies_with_the_run(place, new, load_image: str, cluster: Cluster) -> None:
    asked = scenario(place, load_image) | runs.LONG
    process = runs.started(place, place.command(runs.service(), new(), scenario=asked), "load: ")
    assert running(cluster, place) == 1
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while running(cluster, place):
        assert time.monotonic() < deadline
        pause(0.2)
    pause(4)  # the Lease of the dead run runs out
    assert runs.hotfire(place, "abort").returncode == 21 and nothing_left(cluster, place)


def running(cluster: Cluster, place: Any) -> int:
    pods = cluster.list("v1", "Pod", place.name, labels="hotfire.dev/purpose=load")
    return sum(pod["status"]["phase"] == "Running" for pod in pods)


def test_workers_carry_one_load_together(place, new, load_image: str, cluster: Cluster) -> None:
    """The twin waits in its pods' one CPU with them: what counts here is that every request is accounted for, once."""
    asked = scenario(
        place, load_image, arrivals="constant 50/s", warm_up=10, requests=500, timeout="2s", workers=2, cpu="500m", per_pod=True
    )
    slos = [{"metric": "errors", "ratio": "< 40%"}, {"metric": "e2e", "p50": "< 1900ms", "gate": "advisory"}]
    ended = place.run(runs.service(), new(), scenario=asked | {"slos": slos, "stall": {"max": "1900ms"}})
    event = loaded(ended)
    found = read(ended.folder / event["samples"], event["samples_digest"])
    assert event["client"]["processes"] == 2 and event["client"]["calibration"]["us_per_token"] > 0, ended.output
    served = event["served_by"]
    assert served["how"] == "per-pod slices" and len(served["pods"]) == len(served["each"]) == 2
    assert max(served["pods"].values()) - min(served["pods"].values()) <= 1
    assert ended.check("load.delivered")["outcome"] == "PASS" and len(set(found.i)) == len(found) >= 510
    assert nothing_left(cluster, place)
