"""The embedded stand behind pytest-kubernetes: its `k8s` fixture, its `kubectl`, `apply`, `wait`, `logs`.

pytest-kubernetes has no registration hook (facts: harnesses.md 3.3); a root conftest overrides its factory:

    @pytest.fixture(scope="session")
    def k8s_manager(k8s_manager):
        return lambda name=None: EmbeddedManager if name in (None, "embedded") else k8s_manager(name)
"""

import os
import shutil
from pathlib import Path
from typing import Any

from pytest_kubernetes.options import ClusterOptions  # type: ignore[import-untyped]
from pytest_kubernetes.providers.base import AClusterManager  # type: ignore[import-untyped]

from hotfire.stand.embedded import lifecycle, machine
from hotfire.stand.embedded.plan import Stand


class EmbeddedManager(AClusterManager):  # type: ignore[misc]  # the base has no types
    """One embedded stand for each cluster name (`pytest-` and the name given).

    A stand of that name that runs already is used and left running. The kubeconfig handed out is a private copy,
    since pytest-kubernetes deletes the file it is given.
    """

    _created = False  # delete only what this object made

    @classmethod
    def get_binary_name(cls) -> str:
        """Nothing is run from PATH."""
        return "kubectl"

    def _ensure_executable(self) -> None:
        machine.check()

    @property
    def stand(self) -> Stand:
        """The stand's configuration."""
        return Stand(name=self.cluster_name[:15].rstrip("-"))

    @property
    def running(self) -> lifecycle.Running:
        """The stand that runs: its registry, nodes and devices."""
        return lifecycle.Running(self.stand)

    def ready(self, timeout: int = 20) -> bool:
        """True when it is up and its nodes are Ready; `up` has waited already, so nothing is waited for here."""
        found = lifecycle.status(self.stand)
        if found is None or found.phase != "up" or not all(found.nodes.values()):
            return False
        self._copy(self._cluster_options)
        return True

    def _copy(self, options: ClusterOptions) -> None:
        shutil.copyfile(self.stand.kubeconfig, options.kubeconfig_path)
        if shutil.which("kubectl") is None:  # pytest-kubernetes finds it on PATH only
            os.environ["PATH"] += f"{os.pathsep}{self.running.kubectl.parent}"

    def _on_create(self, cluster_options: ClusterOptions, **kwargs: Any) -> None:
        lifecycle.up(self.stand, wait_s=cluster_options.cluster_timeout)
        self._created = True
        self._copy(cluster_options)

    def _on_delete(self) -> None:
        lifecycle.down(self.stand)

    def load_image(self, image: str) -> None:
        """Import an OCI or docker archive (a path) into every node."""
        self.running.load(Path(image))
