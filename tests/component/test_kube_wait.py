"""Waiting by watch: it ends well only by what it saw, and survives what an API server can do to it."""

import signal
import threading
import time
from collections.abc import Callable

import pytest

from hotfire.errors import Breach, Interrupted, Unjudged
from hotfire.kube.client import MERGE, Cluster, Forbidden, Object, Ref
from hotfire.kube.wait import Late, Watch, aside, interrupt, interrupted, pause, shielded, wait_for
from hotfire.words import Blame, Reason


def config_map(namespace: str, name: str = "one", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def later(seconds: float, call: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, call)
    timer.start()
    return timer


def done(objects: dict[str, Object]) -> str | None:
    return objects.get("one", {}).get("data", {}).get("done")


def test_a_wait_ends_when_the_object_changes(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace))
    timer = later(0.5, lambda: cluster.replace({**made, "data": {"done": "yes"}}))
    began = time.monotonic()
    assert wait_for(cluster, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=10) == "yes"
    assert 0.4 < time.monotonic() - began < 1.0
    timer.join()


def test_a_deleted_object_is_seen_to_go(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace))
    later(0.3, lambda: cluster.delete(Ref.of(made), uid=made["metadata"]["uid"]))
    gone = wait_for(
        cluster, "gone", "v1", "ConfigMap", namespace, until=lambda objects: None if objects else "gone", deadline_s=10
    )
    assert gone == "gone"


def test_late_says_what_was_seen_of_each_object(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace))
    with pytest.raises(Late) as caught:
        wait_for(cluster, "one is done", "v1", "ConfigMap", namespace, until=done, deadline_s=0.5)
    assert caught.value.seen == {"one": f"at version {made['metadata']['resourceVersion']}"}
    assert caught.value.stopped_early is None and 0.5 <= caught.value.after_s < 1.5
    assert isinstance(caught.value, Breach) and caught.value.reason is Reason.BREACH  # FAIL, if nobody looks at it


def test_a_pointless_wait_stops_early_and_says_why(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map(namespace, doomed="yes"))
    with pytest.raises(Late, match="stopped early: it is doomed") as caught:
        wait_for(
            cluster, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=30,
            give_up=lambda objects: "it is doomed" if "doomed" in objects["one"]["data"] else None,
        )  # fmt: skip
    assert caught.value.after_s < 2


def test_false_is_not_yet(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(Late, match="nothing of the kind was there"):
        wait_for(cluster, "any", "v1", "ConfigMap", namespace, until=lambda objects: bool(objects), deadline_s=0.5)


def test_a_closed_stream_is_never_success(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends each stream after a second; the wait goes on until it saw what it waits for, or its deadline."""
    monkeypatch.setattr("hotfire.kube.wait.CHUNK", 1)
    made = cluster.create(config_map(namespace))
    with pytest.raises(Breach, match=r"one is done: not after .*limit 2\.5s") as caught:
        wait_for(cluster, "one is done", "v1", "ConfigMap", namespace, until=done, deadline_s=2.5)
    assert caught.value.reason is Reason.BREACH
    timer = later(1.5, lambda: cluster.replace({**made, "data": {"done": "yes"}}))
    assert wait_for(cluster, "one is done", "v1", "ConfigMap", namespace, until=done, deadline_s=10) == "yes"
    timer.join()


def test_a_wait_survives_the_api_servers_death(control_plane, cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace))

    def die_and_come_back() -> None:
        control_plane.kill_api()
        control_plane.start_api()
        control_plane.wait_ready().patch(Ref.of(made), {"data": {"done": "yes"}}, MERGE)

    timer = later(0.5, die_and_come_back)
    assert wait_for(cluster, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=60) == "yes"
    timer.join()


def test_nobody_is_condemned_while_the_api_server_is_deaf(control_plane, cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map(namespace))
    timer = later(0.3, control_plane.freeze_api)
    try:
        with pytest.raises(Unjudged) as caught:
            wait_for(cluster, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=1)
    finally:
        timer.join()
        control_plane.thaw_api()
    assert (caught.value.reason, caught.value.blame) == (Reason.NO_DATA, Blame.PLATFORM)


def test_an_interrupt_ends_a_wait_within_250_ms(cluster: Cluster, namespace: str) -> None:
    stamps: list[float] = []

    def on_signal(*_: object) -> None:
        stamps.append(time.monotonic())
        interrupt()

    before = signal.signal(signal.SIGUSR1, on_signal)
    later(0.6, lambda: signal.raise_signal(signal.SIGUSR1))
    try:
        with pytest.raises(Interrupted):
            wait_for(cluster, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=30)
    finally:
        ended = time.monotonic()
        signal.signal(signal.SIGUSR1, before)
    assert interrupted() and ended - stamps[0] < 0.25


def test_an_interrupt_ends_a_read_of_a_deaf_server_within_250_ms(control_plane, cluster: Cluster, namespace: str) -> None:
    control_plane.freeze_api()
    timer = later(0.5, interrupt)
    try:
        began = time.monotonic()
        with pytest.raises(Interrupted):
            cluster.get(Ref("v1", "Namespace", "", namespace))
        assert time.monotonic() - began < 0.5 + 0.25
    finally:
        control_plane.thaw_api()
        timer.join()


def test_the_way_back_is_shielded_from_the_flag_it_follows(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map(namespace, done="yes"))
    interrupt()
    with pytest.raises(Interrupted):
        pause(1)
    with shielded():
        pause(0.01)
        assert wait_for(cluster, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=5) == "yes"


def test_a_missing_right_ends_a_wait_at_once(reader: Cluster, namespace: str) -> None:
    began = time.monotonic()
    with pytest.raises(Forbidden, match='cannot list resource "configmaps"'):
        wait_for(reader, "done", "v1", "ConfigMap", namespace, until=done, deadline_s=30)
    assert time.monotonic() - began < 1


def test_a_compacted_version_is_listed_again(control_plane, cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace))
    for number in range(3):
        made = cluster.replace({**made, "data": {"n": str(number)}})
    with Watch(cluster, "v1", "ConfigMap", namespace) as watch:
        assert next_of(watch, "LIST")["one"]["data"] == {"n": "2"}
        control_plane.kill_api()
        control_plane.compact()
        control_plane.start_api()
        control_plane.wait_ready()
        assert next_of(watch, "LIST")["one"]["data"] == {"n": "2"}
        cluster.replace({**made, "data": {"done": "yes"}})
        assert next_of(watch, "MODIFIED")["data"] == {"done": "yes"}


def next_of(watch: Watch, wanted: str) -> Object:
    while (event := watch.events.get(timeout=15))[0] != wanted:
        assert event[0] == "DOWN"
    return event[1]


def test_a_call_that_blocks_is_left_behind_at_its_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match=r"no answer within 0\.3 s"):
        aside(lambda: threading.Event().wait(5), 0.3, "nobody")
    assert time.monotonic() - began < 0.6
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0, 5, "sums")
