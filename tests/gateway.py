"""A real gateway for tests: Debian's HAProxy in an image of its own, built once for each of Debian's versions of it."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotfire.stand import images
from hotfire.stand.embedded import oci, plan
from hotfire.stand.embedded.build import locked
from hotfire.stand.embedded.lifecycle import Registry

SETTINGS = {"Entrypoint": ["/usr/sbin/haproxy", "-W", "-db", "-f", "/etc/gateway/haproxy.cfg"], "User": "0:0"}
CONFIG = """
global
  maxconn 500
defaults
  mode http
  timeout connect 2s
  timeout client 20s
  timeout server 20s
frontend web
  bind :80
  use_backend llm_tiny_http
backend llm_tiny_http
  server service ADDRESS
frontend metrics
  bind :8404
  http-request use-service prometheus-exporter if { path /metrics }
"""


def push(registry: Registry) -> str:
    """In the registry: `ADDRESS/haproxy@sha256:…`."""
    version = subprocess.run(["apt-cache", "show", "--no-all-versions", "haproxy"], capture_output=True, text=True, check=True)
    named = next(line.split()[1] for line in version.stdout.splitlines() if line.startswith("Version:"))
    layout = plan.cache() / "images" / f"haproxy-{named.replace(':', '-')}"
    with locked(layout.parent / "haproxy.lock"):
        if not layout.exists():
            _build(layout)
    return images.push_layout(registry, layout, "haproxy")


def _build(layout: Path) -> None:
    with tempfile.TemporaryDirectory(dir=layout.parent, prefix=".haproxy-") as scratch:
        root, fresh = Path(scratch) / "root", Path(scratch) / "out"
        images.unpack(root, ["haproxy"])
        for name in ("usr/share", "var/cache", "var/lib", "dev"):
            shutil.rmtree(root / name)
        fresh.mkdir(mode=0o755)
        oci.write(fresh, SETTINGS, [oci.pack(root, fresh)])
        fresh.rename(layout)


def objects(image: str, address: str) -> list[Mapping[str, Any]]:
    """One that leads whatever comes to port 80 of its node to the address, HOST:PORT, and tells of it at port 8404."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gateway"}}
    pod = {
        "hostNetwork": True, "terminationGracePeriodSeconds": 1, "imagePullSecrets": [{"name": "registry"}],
        "volumes": [{"name": "config", "configMap": {"name": "gateway"}}],
        "containers": [{"name": "haproxy", "image": image, "volumeMounts": [{"name": "config", "mountPath": "/etc/gateway"}],
                        "readinessProbe": {"httpGet": {"path": "/metrics", "port": 8404}, "periodSeconds": 1}}],
    }  # fmt: skip
    meta = {"name": "gateway", "labels": {"app": "gateway"}}
    return [
        {**config, "data": {"haproxy.cfg": CONFIG.replace("ADDRESS", address)}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod},
    ]
