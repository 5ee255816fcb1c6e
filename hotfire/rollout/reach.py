"""How requests get to the candidate: a URL that is there already, the Ingress in front of its Service, the Service's own
name, or a NodePort Service of the run's own.

The extra Service selects what the candidate's own Service selects, so it reaches the baseline before the deploy and the
candidate after it; it is undone like everything the run adds.
"""

import socket
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.pods import is_ready
from hotfire.scenario.model import Located
from hotfire.scenario.serves import Serves
from hotfire.words import Blame, Reason

API_SERVER = "kubernetes.default.svc"  # a name that every pod resolves
PREFIXES = ("", "/v1", "/api")  # of an Ingress: the API's own paths begin with them


def check(cluster: Cluster, located: Located, namespace: str) -> None:
    """Whether the declared way can be gone at all, before anything is touched. Raises BadInput when it cannot."""
    via = located.scenario.reach.via
    if via == "ingress":
        for serves in located.scenario.candidate.serves:
            _route(cluster, located, namespace, serves)
    if via == "in-cluster":
        try:
            socket.getaddrinfo(API_SERVER, 443)
        except OSError:
            raise BadInput(
                f"{located.where('reach', 'via')}: in-cluster: {API_SERVER} is not known on this machine, a run in a pod of "
                "the cluster or another way is expected"
            ) from None


def in_cluster_url(cluster: Cluster, located: Located, namespace: str, serves: Serves) -> str:
    """By the Service's name, as other pods of the cluster call it. Raises BadInput as `extra_service` does."""
    port = _port(_service(cluster, located, namespace, serves), serves, located)
    return f"{_scheme(located)}://{serves.service}.{namespace}.svc:{port['port']}"


def ingress_url(cluster: Cluster, located: Located, namespace: str, serves: Serves) -> str:
    """As the Ingress says; without a host in its rule, its load balancer's address.

    Raises BadInput when none or several lead to the Service, HarnessError while it has no address.
    """
    name, host, path = _route(cluster, located, namespace, serves)
    if not host:
        live = cluster.find(Ref("networking.k8s.io/v1", "Ingress", namespace, name)) or {}
        at = ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
        host = _host(str(at[0].get("ip") or at[0].get("hostname") or ""))
        if not host:
            raise HarnessError(f"Ingress {name} has no address yet, and its rule names no host")
    return f"{_scheme(located)}://{host}{path}"


def _scheme(located: Located) -> str:
    return "https" if located.scenario.reach.tls else "http"


def _route(cluster: Cluster, located: Located, namespace: str, serves: Serves) -> tuple[str, str, str]:
    """(Ingress, host or "", path to put before the API's own)."""
    reach, where = located.scenario.reach, located.where("reach", "via")
    ingresses: list[Any] = [obj for obj in located.objects if obj["kind"] == "Ingress"]
    ingresses += cluster.list("networking.k8s.io/v1", "Ingress", namespace) if not ingresses else []
    routes = {(item["metadata"]["name"], *route) for item in ingresses for route in _routes(item["spec"], serves.service)}
    if reach.host is not None:
        wanted = reach.host
        routes = {(name, wanted, path) for name, host, path in routes if fnmatchcase(wanted, host or "*")}
    if len(routes) != 1 or any("*" in host for _, host, _ in routes):
        seen = ", ".join(sorted(f"{host or 'any host'}{path}" for _, host, path in routes)) or "none"
        asked = (
            "`host` must name one" if routes else f"an Ingress to it{f' for {reach.host}' if reach.host else ''} is expected"
        )
        raise BadInput(f"{where}: ingress to the Service {serves.service}: {seen}: {asked}")
    name, host, path = routes.pop()
    spec = next(item["spec"] for item in ingresses if item["metadata"]["name"] == name)
    if not reach.tls and any(host in (one.get("hosts") or [host]) for one in spec.get("tls") or ()):
        raise BadInput(f"{where}: Ingress {name} terminates TLS for {host or 'any host'}, `tls: true` is expected")
    return name, host, path


def _routes(spec: Object, service: str) -> Iterator[tuple[str, str]]:
    """(host or "", path) of what leads to the Service. A path with a pattern in it is none that requests can be sent to."""
    if ((spec.get("defaultBackend") or {}).get("service") or {}).get("name") == service:
        yield "", ""
    for rule in spec.get("rules") or ():
        for one in (rule.get("http") or {}).get("paths") or ():
            path = str(one.get("path") or "/").rstrip("/")
            plain = one.get("pathType") != "Exact" and not set(path) & set("()*$|")
            if plain and (one["backend"].get("service") or {}).get("name") == service:
                yield str(rule.get("host") or ""), "" if path in PREFIXES else path


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


def pod_places(cluster: Cluster, located: Located, namespace: str, serves: Serves) -> tuple[str, ...]:
    """NAME=HOST:PORT of each Ready pod behind the Service, by name. Raises Unjudged when there is none."""
    named = _port(_service(cluster, located, namespace, serves), serves, located).get("name") or ""
    labels = f"kubernetes.io/service-name={serves.service}"
    found = {
        str(endpoint["targetRef"]["name"]): f"{_host(endpoint['addresses'][0])}:{port['port']}"
        for item in cluster.list("discovery.k8s.io/v1", "EndpointSlice", namespace, labels=labels)
        for port in item.get("ports") or ()
        for endpoint in item.get("endpoints") or ()
        if (port.get("name") or "") == named and (endpoint.get("conditions") or {}).get("ready") and endpoint.get("targetRef")
    }
    if not found:
        raise Unjudged(f"no Ready pod is behind the Service {serves.service}", reason=Reason.EMPTY, blame=Blame.CANDIDATE)
    return tuple(f"{name}={place}" for name, place in sorted(found.items()))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def node_url(cluster: Cluster, service: Object, scheme: str = "http") -> str:
    """A URL of the made NodePort Service: at a Ready node, one without hard taints first, since faults aim at the others.

    Raises HarnessError when no node is Ready.
    """
    ready = [node for node in cluster.list("v1", "Node") if is_ready(node)]
    ready.sort(key=lambda node: (bool(node["spec"].get("taints")), node["metadata"]["name"]))
    addresses = [address["address"] for node in ready for address in node["status"]["addresses"] if _inside(address)]
    if not addresses:
        raise HarnessError("no node is Ready: there is no address to send requests to")
    return f"{scheme}://{_host(addresses[0])}:{service['spec']['ports'][0]['nodePort']}"


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
