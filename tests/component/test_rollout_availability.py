"""Who is served while a way back is gone, as somebody sees it who asks on: answers that stay out, endpoints that go."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hotfire.errors import Breach
from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.availability import Availability

SLICE = "discovery.k8s.io/v1"


@pytest.fixture
def slices(cluster: Cluster, namespace: str) -> Callable[[int], None]:
    """Lets the Service `llama` have so many ready endpoints, beside one that is not."""

    def have(ready: int) -> None:
        meta = {"name": "llama-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "llama"}}
        found = [{"addresses": [f"198.18.9.{n}"], "conditions": {"ready": n <= ready}} for n in range(1, ready + 2)]
        body: dict[str, Any] = {"apiVersion": SLICE, "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4"}
        live = cluster.find(Ref(SLICE, "EndpointSlice", namespace, "llama-1"))
        write = cluster.replace if live else cluster.create
        write({**body, "metadata": live["metadata"] if live else meta, "endpoints": found})

    return have


def test_an_outage_is_as_long_as_nobody_was_answered_and_endpoints_are_counted_at_their_fewest(cluster, namespace, slices):
    slices(2)
    away = False

    def ask() -> None:
        if away:
            raise Breach("nobody answers")

    with Availability(ask, cluster, namespace, ["llama"]) as availability:
        pause(1.2)
        away, began = True, time.monotonic()
        slices(1)
        pause(1.6)
        away, seconds = False, time.monotonic() - began
        slices(3)
        pause(0.8)
        served = availability.served()
    assert served.asked >= 4 and 0 < served.failed < served.asked and served.longest_s >= 1, (served, seconds)
    assert served.longest_s < seconds + 3 and served.ready == {"llama": 1}, (served, seconds)


def test_a_question_that_hangs_keeps_no_other_from_being_asked_and_counts_as_failed(cluster, namespace):
    asked = []

    def ask() -> None:
        asked.append(time.monotonic())
        if len(asked) == 2:
            threading.Event().wait(6)

    with Availability(ask, cluster, namespace, []) as availability:
        pause(2.2)
        served = availability.served()
    assert served.asked == len(asked) >= 3 and served.failed == 1 and served.longest_s < 5, served


def test_a_service_that_nobody_answers_for_is_out_all_the_time(cluster, namespace):
    def ask() -> None:
        raise Breach("nobody answers")

    with Availability(ask, cluster, namespace, ["llama"]) as availability:
        pause(1.2)
        served = availability.served()
    assert served.failed == served.asked and served.longest_s >= 1.2 and served.ready == {"llama": 0}
