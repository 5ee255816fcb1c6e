"""Attaching to a container: an API server that accepts and never answers must not hold up a run, or a signal to it."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient, Configuration

from hotfire.errors import Interrupted
from hotfire.kube.attach import Attached
from hotfire.kube.client import Cluster, Unreachable
from hotfire.kube.wait import forget_interrupt, interrupt


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """It takes connections and says nothing; which resources it has is known."""
    monkeypatch.setattr(Cluster, "path", lambda *_: "/api/v1/namespaces/n/pods/load/attach")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        with ApiClient(Configuration(host=host)) as api:
            yield Cluster(api, "by hand", timeout=1.0)


def test_it_gives_up_in_time(silent: Cluster) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"attach to .*: no answer within 1 s"):
        Attached(silent, "n", "load", "load")
    assert time.monotonic() - began < 3


def test_a_signal_is_seen_meanwhile(silent: Cluster) -> None:
    silent.timeout = 30.0
    threading.Timer(0.3, interrupt).start()
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            Attached(silent, "n", "load", "load")
    finally:
        forget_interrupt()
    assert time.monotonic() - began < 3
