"""Bridge, namespaces and routes. No packet of the stand has a way off the machine (facts: traffic stays here).

Nothing is changed but what bears our names; host firewall and sysctls stay as they are.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from hotfire.stand.embedded import plan
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.plan import Node
from hotfire.stand.embedded.processes import command

NAMESPACES = Path("/run/netns")


def create(nodes: Sequence[Node]) -> None:
    """The bridge with the control plane's address, a namespace for each node, and the host's routes to them."""
    host = [
        f"link add {plan.BRIDGE} type bridge",
        f"addr add {plan.CONTROL}/24 dev {plan.BRIDGE}",
        f"link set {plan.BRIDGE} up",
        f"route add unreachable {plan.POD_RANGE}",  # a pod whose node is gone must not follow the default route
        # from the host a pod is reached by its node, a Service by the plain node's kube-proxy
        *(f"route add {node.pods} via {node.address}" for node in nodes),
        f"route add {plan.SERVICE_RANGE} " + (f"via {nodes[-1].address}" if nodes else f"dev {plan.BRIDGE}"),
    ]
    command("ip", "-batch", "-", stdin="\n".join(host))
    Path(f"/proc/sys/net/ipv6/conf/{plan.BRIDGE}/disable_ipv6").write_text("1")
    for node in nodes:
        attach(node, nodes)


def attach(node: Node, nodes: Sequence[Node]) -> None:
    """A fresh network for a node: what an earlier life left in its namespace goes with that namespace."""
    detach(node.link)
    command("ip", "netns", "add", node.link)
    link = [
        f"link add {node.link} type veth peer name eth0 netns {node.link}",
        f"link set {node.link} master {plan.BRIDGE} up",
    ]
    inside = [
        "link set lo up",
        f"addr add {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route add unreachable {plan.POD_RANGE}",
        f"route add {plan.SERVICE_RANGE} dev eth0",  # the node's own calls: DNAT happens after routing
        *(f"route add {other.pods} via {other.address}" for other in nodes if other != node),
    ]
    command("ip", "-batch", "-", stdin="\n".join(link))
    command("ip", "-n", node.link, "-batch", "-", stdin="\n".join(inside))


def detach(name: str) -> None:
    """Remove one namespace and its veth, if they are there."""
    if (NAMESPACES / name).exists():
        command("ip", "netns", "del", name, check=False)
        (NAMESPACES / name).unlink(missing_ok=True)  # a launcher killed between the file and its mount
    if Path("/sys/class/net", name).exists():
        command("ip", "link", "del", name, check=False)


def links() -> Sequence[str]:
    """Interfaces of ours on the host."""
    names = [link["ifname"] for link in json.loads(command("ip", "-j", "link") or "[]")]
    return [n for n in names if n == plan.BRIDGE or n.startswith("hf-")]


def namespaces() -> Sequence[str]:
    """Network namespaces of ours."""
    return sorted(p.name for p in NAMESPACES.glob("hf-*")) if NAMESPACES.is_dir() else []


def remove() -> None:
    """Take all of it away, in whatever state it is."""
    for name in namespaces():
        detach(name)
    for name in links():
        command("ip", "link", "del", name, check=False)
    command("ip", "route", "del", "unreachable", plan.POD_RANGE, check=False)
    until("the stand's interfaces are gone", lambda: not links(), 3.0)
