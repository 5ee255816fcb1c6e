"""How requests get to the candidate: a URL that is there already, or a NodePort Service of the run's own.

The extra Service selects what the candidate's own Service selects, so it reaches the baseline before the deploy and the
candidate after it; it is undone like everything the run adds.
"""

from collections.abc import Sequence
from typing import Any

from hotfire.errors import BadInput, HarnessError
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.pods import condition
from hotfire.scenario.model import Located, Serves


def extra_service(cluster: Cluster, located: Located, namespace: str, run: str, serves: Serves) -> Object:
    """The NodePort Service for one API. Raises BadInput when the Service has no such port, or several and none is named."""
    service = _service(cluster, located, namespace, serves)
    name = f"hotfire-reach-{run[-4:]}-{serves.service}"[:63].rstrip("-")
    port = _port(service, serves, located)
    kept = {key: port[key] for key in ("port", "targetPort", "protocol", "appProtocol") if key in port}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "NodePort", "selector": dict(service["spec"]["selector"]), "ports": [kept]},
    }


def node_url(cluster: Cluster, service: Object, scheme: str = "http") -> str:
    """A URL of the made NodePort Service: at a Ready node, one without hard taints first, since faults aim at the others.

    Raises HarnessError when no node is Ready.
    """
    ready = [node for node in cluster.list("v1", "Node") if condition(node, "Ready").get("status") == "True"]
    ready.sort(key=lambda node: (bool(node["spec"].get("taints")), node["metadata"]["name"]))
    addresses = [address["address"] for node in ready for address in node["status"]["addresses"] if _inside(address)]
    if not addresses:
        raise HarnessError("no node is Ready: there is no address to send requests to")
    return f"{scheme}://{addresses[0]}:{service['spec']['ports'][0]['nodePort']}"


def _inside(address: dict[str, str]) -> bool:
    return address["type"] == "InternalIP"


def _service(cluster: Cluster, located: Located, namespace: str, serves: Serves) -> Object:
    for obj in located.objects:
        found: Any = obj
        if (found["kind"], found["metadata"]["name"]) == ("Service", serves.service):
            return dict(found)
    return cluster.get(Ref("v1", "Service", namespace, serves.service))


def _port(service: Object, serves: Serves, located: Located) -> Object:
    ports: Sequence[Object] = service["spec"]["ports"]
    wanted = [port for port in ports if serves.port in (None, port.get("name"), port["port"])]
    if len(wanted) != 1:
        seen = ", ".join(str(port.get("name") or port["port"]) for port in ports)
        raise BadInput(f"{located.path}: service {serves.service} has the ports {seen}: `port` must name one of them")
    return wanted[0]
