"""The way to the candidate as a real API server has it: by the Ingress in front of its Service, or by the Service's name."""

from pathlib import Path

import pytest

from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.kube.client import Cluster, Object
from hotfire.rollout import reach
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from tests.planted_run import MANIFESTS, SCENARIO

GROUP = "networking.k8s.io/v1"


def located(folder: Path, namespace: str, way: str) -> Located:
    (folder / "manifests").mkdir(exist_ok=True)
    (folder / "manifests" / "all.yaml").write_text(MANIFESTS)
    text = "\n".join(line for line in SCENARIO.replace("NAMESPACE", namespace).splitlines() if not line.startswith("reach:"))
    (folder / "scenario.yaml").write_text(f"{text}\nreach: {way}\n")
    return load(folder / "scenario.yaml")


def ingress(
    cluster: Cluster, namespace: str, name: str, *rules: tuple[str, str], tls: str = "", service: str = "tiny"
) -> Object:
    """Rules of host and path to a Service."""
    made: list[Object] = []
    for host, path in rules:
        backend = {"service": {"name": service, "port": {"number": 8080}}}
        http = {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}
        made.append({**({"host": host} if host else {}), "http": http})
    spec: Object = {"rules": made, **({"tls": [{"hosts": [tls]}]} if tls else {})}
    meta = {"name": name, "namespace": namespace}
    return cluster.create({"apiVersion": GROUP, "kind": "Ingress", "metadata": meta, "spec": spec})


def url(cluster: Cluster, found: Located, namespace: str) -> str:
    return reach.ingress_url(cluster, found, namespace, found.scenario.candidate.serves[0])


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "http://llm.example"), ("/v1", "http://llm.example"), ("/llama/", "http://llm.example/llama")],
)
def test_requests_go_where_the_ingress_leads_from(
    cluster: Cluster, namespace: str, tmp_path: Path, path: str, expected: str
) -> None:
    ingress(cluster, namespace, "other", ("other.example", "/"), service="web")
    ingress(cluster, namespace, "llm", ("llm.example", path))
    assert url(cluster, located(tmp_path, namespace, "{via: ingress}"), namespace) == expected


def test_several_hosts_need_one_named(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    ingress(cluster, namespace, "llm", ("a.example", "/"), ("*.b.example", "/"))
    with pytest.raises(BadInput, match=r"ingress to the Service tiny: \*\.b\.example, a\.example: `host` must name one"):
        reach.check(cluster, located(tmp_path, namespace, "{via: ingress}"), namespace)
    found = located(tmp_path, namespace, "{via: ingress, host: x.b.example}")
    assert url(cluster, found, namespace) == "http://x.b.example"


def test_an_ingress_that_is_not_there_is_said_before_anything(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="ingress to the Service tiny: none: an Ingress to it is expected"):
        reach.check(cluster, located(tmp_path, namespace, "{via: ingress}"), namespace)


def test_tls_is_as_the_ingress_has_it(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    ingress(cluster, namespace, "llm", ("llm.example", "/"), tls="llm.example")
    with pytest.raises(BadInput, match=r"Ingress llm terminates TLS for llm\.example, `tls: true` is expected"):
        reach.check(cluster, located(tmp_path, namespace, "{via: ingress}"), namespace)
    assert url(cluster, located(tmp_path, namespace, "{via: ingress, tls: true}"), namespace) == "https://llm.example"


@pytest.mark.parametrize(("address", "host"), [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "[2001:db8::7]")])
def test_without_a_host_it_is_the_address_of_the_load_balancer(
    cluster: Cluster, namespace: str, tmp_path: Path, address: str, host: str
) -> None:
    made, found = ingress(cluster, namespace, "llm", ("", "/")), located(tmp_path, namespace, "{via: ingress}")
    with pytest.raises(HarnessError, match="Ingress llm has no address yet"):
        url(cluster, found, namespace)
    status = {"loadBalancer": {"ingress": [{"ip": address}]}}
    cluster.replace({**made, "status": status}, subresource="status")
    assert url(cluster, found, namespace) == f"http://{host}"


def test_in_a_pod_requests_go_by_the_name_of_the_service(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    found = located(tmp_path, namespace, "{via: in-cluster, tls: true}")
    serves = found.scenario.candidate.serves[0]
    assert reach.in_cluster_url(cluster, found, namespace, serves) == f"https://tiny.{namespace}.svc:80"


def test_outside_of_the_cluster_its_names_are_no_way(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"in-cluster: kubernetes\.default\.svc is not known on this machine"):
        reach.check(cluster, located(tmp_path, namespace, "{via: in-cluster}"), namespace)


def test_pods_are_reached_one_by_one_where_they_are_ready(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    found, labels = located(tmp_path, namespace, "{via: in-cluster}"), {"kubernetes.io/service-name": "tiny"}
    serves = found.scenario.candidate.serves[0]
    with pytest.raises(Unjudged, match="no Ready pod is behind the Service tiny"):
        reach.pod_places(cluster, found, namespace, serves)
    for number, (family, address, ready) in enumerate(
        (("IPv4", "10.1.0.7", True), ("IPv4", "10.1.0.8", False), ("IPv6", "fd00::7", True))
    ):
        target = {"kind": "Pod", "name": f"p{number}", "namespace": namespace}
        end = {"addresses": [address], "conditions": {"ready": ready}, "targetRef": target}
        meta = {"name": f"tiny-{number}", "namespace": namespace, "labels": labels}
        ports = [{"name": "", "port": 8080}, {"name": "metrics", "port": 9090}]
        made = {"metadata": meta, "addressType": family, "endpoints": [end], "ports": ports}
        cluster.create({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **made})
    assert reach.pod_places(cluster, found, namespace, serves) == ("p0=10.1.0.7:8080", "p2=[fd00::7]:8080")
