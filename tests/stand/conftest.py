"""One embedded stand for the whole session, of the tests' own name; it is waited for when another holds the machine."""

import os
import uuid
from collections.abc import Iterator

import pytest

from hotfire.kube.client import Cluster, Object
from hotfire.stand.embedded import lifecycle, machine
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.embedded.plan import Stand

NAME = os.environ.get("HOTFIRE_TEST_STAND", "test")
WAIT_S = float(os.environ.get("HOTFIRE_TEST_WAIT", "240"))  # under pytest's limit for one test, so that the holder is named


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the stand away comes last."""
    items.sort(key=lambda item: item.get_closest_marker("destructive") is not None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "destructive: takes the session's stand away; runs last")


@pytest.fixture(scope="session")
def terminal(request: pytest.FixtureRequest) -> Iterator[object]:
    """A writer past pytest's capture: whoever waits for the machine must see for whom."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    yield lambda line: reporter.write_line(line) if reporter else None


@pytest.fixture(scope="session")
def embedded(terminal) -> Iterator[Running]:
    """The running stand; left running only if it ran before."""
    stand = Stand(name=NAME)
    holder = machine.owner()
    ours = holder is None or holder.name != NAME or not holder.alive
    yield lifecycle.up(stand, wait_s=WAIT_S, say=terminal)
    if ours:
        lifecycle.down(stand)


@pytest.fixture(scope="session")
def cluster(embedded: Running) -> Cluster:
    """The admin of the embedded stand."""
    return Cluster.connect(str(embedded.kubeconfig))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Object]:
    """A namespace of the test's own, gone after it."""
    made = cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"t-{uuid.uuid4().hex[:10]}"}})
    yield made
    cluster.raw("DELETE", f"/api/v1/namespaces/{made['metadata']['name']}")
