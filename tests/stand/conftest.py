"""One embedded stand for the whole session, of the tests' own name; it is waited for when another holds the machine."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotfire.kube.client import Cluster, Object, Ref
from hotfire.rollout.job import ACCOUNT
from hotfire.rollout.rbac import rbac
from hotfire.scenario.loader import load
from hotfire.stand.embedded import lifecycle, machine
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.embedded.plan import Stand
from hotfire.stand.images import push
from tests.place import Place, Places, deployment

NAME = os.environ.get("HOTFIRE_TEST_STAND", "test")
GPUS = 8  # simulated, on each of two nodes: of the test that runs, of the one before and of the one after it
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
    stand = Stand(name=NAME, gpus_per_node=GPUS)
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


@pytest.fixture(scope="session")
def tiny(embedded: Running, terminal: Any) -> str:
    """The tiny image in the stand's registry, by digest."""
    return push(embedded.registry, "tiny", terminal)


@pytest.fixture(scope="session")
def places(embedded: Running, cluster: Cluster, tiny: str) -> Iterator[Places]:
    made = Places(embedded, cluster, tiny)
    yield made
    made.end()


@pytest.fixture
def place(places: Places, tmp_path: Path) -> Iterator[Place]:
    with places.one(tmp_path) as made:
        yield made


@pytest.fixture
def new(tiny: str) -> Callable[..., dict[str, Any]]:
    return lambda *flags, **more: deployment(tiny, "--answer", "new new new new", *flags, **more)


@pytest.fixture(scope="session")
def own_image(embedded: Running, terminal: Any) -> str:
    return push(embedded.registry, "hotfire", terminal)


@pytest.fixture
def armed(place: Place, own_image: str) -> Callable[..., list[str]]:
    """The command of a run that arms its way back; the watchdog's rights are applied by the owner, as `hotfire rbac` prints."""

    def command(*objects: Any, scenario: dict[str, Any] | None = None) -> list[str]:
        made = place.command(*objects, scenario=scenario)
        located = load(place.folder / "scenario.yaml")
        place.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(rbac(located, place.name, ACCOUNT)))
        return [*made, "--watchdog-image", own_image]

    return command


@pytest.fixture
def gone(cluster: Cluster) -> Iterator[str]:
    """A name that no namespace has; what has it afterwards is taken away."""
    name = f"own-{time.monotonic_ns() % 10**9}"
    yield name
    live = cluster.find(Ref("v1", "Namespace", "", name))
    if live is not None:
        cluster.delete(Ref.of(live), uid=live["metadata"]["uid"])


@pytest.fixture
def own(place: Place, gone: str) -> dict[str, Any]:
    """What makes the scenario a certify in a namespace of its own."""
    stand = {"namespace": gone, "create": True, "secrets_from": place.name, "accelerators": "simulated"}
    return {"stand": stand, "mode": "certify", "users": None}
