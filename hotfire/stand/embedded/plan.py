"""What a stand is made of: names, addresses, folders, versions. Nothing here touches the machine."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hotfire.errors import BadInput
from hotfire.words import SIMULATED_NODES

RUN = Path("/run/hotfire")
CONTROL = "198.18.0.1"  # RFC 2544 range: collides with nobody's 10.x network
NODE_RANGE, POD_RANGE, SERVICE_RANGE = "198.18.0.0/24", "198.18.128.0/17", "198.19.0.0/16"
API_PORT, REGISTRY_PORT, ETCD_PORT = 6443, 5000, 2379
NODE_MONITOR_S = 1  # the node lifecycle controller's round
API_SERVICE = "198.19.0.1"  # `kubernetes.default`: the first address of the Service range
BRIDGE = "hf0"
CGROUP = "hotfire"
PAUSE = "hotfire.local/pause:1"
GPU = "nvidia.com/gpu"
TAINT = "ai.workload=inference:NoSchedule"


def cache() -> Path:
    """The folder for what outlives a stand: binaries, images, bulk data. `$XDG_CACHE_HOME/hotfire`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotfire"


@dataclass(frozen=True)
class Node:
    """One node: its name, its place in the address plan, its simulated devices."""

    name: str
    index: int
    gpus: int

    @property
    def address(self) -> str:
        """The node's InternalIP on the bridge."""
        return f"198.18.0.{10 + self.index}"

    @property
    def pods(self) -> str:
        """The /24 its pods get."""
        return f"198.18.{128 + self.index}.0/24"

    @property
    def link(self) -> str:
        """Name of its network namespace and of its veth on the host (15 characters at most)."""
        return f"hf-{self.name}"

    @property
    def labels(self) -> Mapping[str, str]:
        """What the kubelet registers with; GPU nodes carry the guide's label, and that they simulate."""
        return dict([("accelerator", "gpu"), SIMULATED_NODES] if self.gpus else [])

    @property
    def devices(self) -> Sequence[str]:
        """Ids of the simulated GPUs."""
        return [f"GPU-sim-{self.name}-{i}" for i in range(self.gpus)]


@dataclass(frozen=True)
class Stand:
    """The configuration of one embedded stand.

    name: at most 15 of a-z, 0-9 and -; gpus_per_node: simulated devices on each of the two GPU nodes;
    binaries: folder of official ones instead of ours; node_grace_s: silence after which a node is NotReady;
    eviction_s: how long pods stay bound to a lost node; control_plane_only: etcd, API server and controllers, no nodes.
    """

    name: str = "dev"
    gpus_per_node: int = 2
    binaries: Path | None = None
    node_grace_s: int = 7
    eviction_s: int = 10
    control_plane_only: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,14}", self.name):
            raise BadInput(f"--name {self.name!r}: a stand's name is 1 to 15 of a-z, 0-9 and -, and begins with a letter")
        if not 1 <= self.gpus_per_node <= 16:
            raise BadInput(f"--gpus-per-node {self.gpus_per_node}: 1 to 16")

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """Two GPU nodes and a plain one; none for a control plane alone."""
        if self.control_plane_only:
            return ()
        return (Node("gpu-1", 1, self.gpus_per_node), Node("gpu-2", 2, self.gpus_per_node), Node("cpu-1", 3, 0))

    def node(self, name: str) -> Node:
        """The node of that name; BadInput otherwise."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadInput(f"no node {name!r} on this stand: {', '.join(n.name for n in self.nodes)}")

    @property
    def state(self) -> Path:
        """Configuration, logs, sockets, pid files: gone after `down`."""
        return RUN / self.name

    @property
    def bulk(self) -> Path:
        """etcd's data and the nodes' image stores, on disk, since /run may be memory: gone after `down`."""
        return cache() / "stands" / self.name

    @property
    def registry_store(self) -> Path:
        """Layers pushed to the registry; content-addressed, so it may outlive a stand and spare the next push."""
        return cache() / "registry"

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig (0600)."""
        return self.state / "kubeconfig"

    @property
    def registry_file(self) -> Path:
        """`{"address", "user", "password"}` of the registry (0600)."""
        return self.state / "registry.json"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.state / "logs"

    def node_dir(self, node: Node) -> Path:
        """What the node sees as its /run, /var/lib and /var/log, and its configuration."""
        return self.state / "nodes" / node.name

    def unhealthy_dir(self, node: Node) -> Path:
        """A file here named as a device makes that device unhealthy."""
        return self.node_dir(node) / "unhealthy"
