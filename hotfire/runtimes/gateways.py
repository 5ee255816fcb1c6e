"""What leads users to the engines and counts their requests on the way, by the names of each gateway's own Prometheus metrics.

Sources: HAProxy's exporter (addons/promex), ingress-nginx (user guide, monitoring), Traefik (observability, metrics), Envoy
(cluster statistics; its latencies are in milliseconds and are left alone). Seen at the real thing: HAProxy (Debian's, in the
tests); Envoy 1.40.0 on 2026-11-27, which counts as `5` also the 503 it gives itself when nobody is behind it.
"""

import re

from hotfire.runtimes import contract_of
from hotfire.runtimes.counters import Counts, Series
from hotfire.scenario.serves import Gateway, Serves

FAILED = r"5\d\d"


def counts_of(serves: Serves) -> Counts | None:
    """What tells how its users' requests went: the gateway that the scenario names, else the engine itself, else nothing."""
    return counts(serves.counted_by) if serves.counted_by else contract_of(serves.runtime).counts


def counts(gateway: Gateway) -> Counts:
    """Of the requests that it leads to this backend. HAProxy and Envoy tell no latency."""
    backend = re.escape(gateway.backend)
    match gateway.kind:
        case "haproxy":
            of = {"proxy": backend}
            name = "haproxy_backend_http"
            return Counts(Series(f"{name}_requests", of), Series(f"{name}_responses", {**of, "code": "5xx"}))
        case "envoy":
            of, name = {"envoy_cluster_name": backend}, "envoy_cluster_upstream_rq_xx"
            return Counts(Series(name, of), Series(name, {**of, "envoy_response_code_class": "5"}))
        case "ingress-nginx":
            namespace, _, service = gateway.backend.rpartition("/")
            of = {"service": re.escape(service), "namespace": re.escape(namespace) or ".*"}
            name = "nginx_ingress_controller_request"
            latency = {"e2e": Series(f"{name}_duration_seconds", of)}
            return Counts(Series(f"{name}s", of), Series(f"{name}s", {**of, "status": FAILED}), latency)
    of, name = {"service": backend}, "traefik_service_request"
    latency = {"e2e": Series(f"{name}_duration_seconds", of)}
    return Counts(Series(f"{name}s", of), Series(f"{name}s", {**of, "code": FAILED}), latency)
