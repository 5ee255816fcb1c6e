"""The one control plane of the session, its people, and a namespace for each test."""

import uuid
from collections.abc import Iterator

import pytest

from hotfire.kube.client import Cluster
from hotfire.kube.wait import forget_interrupt
from tests.control_plane import ControlPlane, share
from tests.dead_run import scene
from tests.planted_run import ground

__all__ = ("ground", "scene")


def pytest_configure(config: pytest.Config) -> None:
    share(config)


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> Cluster:
    """The admin."""
    return Cluster.connect(str(control_plane.kubeconfig("admin")))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own. Nothing collects it: there is no controller; names are never used twice."""
    made = cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"t-{uuid.uuid4().hex[:10]}"}})
    yield str(made["metadata"]["name"])


@pytest.fixture(autouse=True)
def flag_is_down() -> Iterator[None]:
    forget_interrupt()
    yield
    forget_interrupt()


@pytest.fixture(scope="session")
def reader(control_plane: ControlPlane) -> Cluster:
    """A user without any right but those a test grants."""
    return Cluster.connect(str(control_plane.kubeconfig("reader")))


@pytest.fixture
def restricted(cluster: Cluster, namespace: str) -> str:
    """The namespace, where only restricted pods are let in."""
    live = cluster.raw("GET", f"/api/v1/namespaces/{namespace}")
    live["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    cluster.replace(live)
    return namespace
