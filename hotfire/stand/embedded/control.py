"""The control plane as command lines: etcd, API server, controllers, scheduler, DNS, registry.

Everything binds to the bridge's address; etcd, which has no door of its own, to the loopback.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import bcrypt

from hotfire.stand.embedded import plan
from hotfire.stand.embedded.pki import Authority, secret
from hotfire.stand.embedded.plan import Stand

ETCD, ETCD_PEER = "http://127.0.0.1:12379", "http://127.0.0.1:12380"  # not the usual ports: the host may have an etcd


def write(stand: Stand, authority: Authority) -> Mapping[str, Sequence[str]]:
    """Write certificates and configuration; the command of each component, in starting order."""
    state, pki = stand.state, stand.state / "pki"
    api_names = [
        plan.CONTROL, plan.API_SERVICE, "127.0.0.1", "localhost",
        "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
    ]  # fmt: skip
    serving = authority.issue("apiserver", "kube-apiserver", serves=api_names)
    to_kubelets = authority.issue("apiserver-kubelet", "kube-apiserver", "system:masters")
    keys = authority.service_account_key()
    authority.kubeconfig(stand.kubeconfig, authority.issue("admin", "admin", "system:masters"), f"hotfire-{stand.name}")
    # one identity for all controllers: a ServiceAccount and a token for each of them would cost seconds
    manager = authority.kubeconfig(
        pki / "controller-manager.conf", authority.issue("controllers", "controllers", "system:masters"), "stand"
    )
    # of the masters, too: a restarted API server refuses all others until it has read its roles, and they back off for long
    scheduler = authority.kubeconfig(
        pki / "scheduler.conf", authority.issue("scheduler", "system:kube-scheduler", "system:masters"), "stand"
    )
    commands = {
        "etcd": [
            f"{state}/bin/etcd", "--name=stand", f"--data-dir={stand.bulk}/etcd", "--unsafe-no-fsync",
            f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}", f"--listen-peer-urls={ETCD_PEER}",
            f"--initial-advertise-peer-urls={ETCD_PEER}", f"--initial-cluster=stand={ETCD_PEER}", "--log-level=warn",
        ],
        "apiserver": [
            f"{state}/bin/kube-apiserver", f"--etcd-servers={ETCD}", f"--bind-address={plan.CONTROL}",
            f"--advertise-address={plan.CONTROL}", f"--secure-port={plan.API_PORT}", "--anonymous-auth=false",
            f"--client-ca-file={authority.file}", f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={plan.SERVICE_RANGE}",
            f"--service-account-key-file={keys}", f"--service-account-signing-key-file={keys}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--allow-privileged=true",
            f"--kubelet-certificate-authority={authority.file}", f"--kubelet-client-certificate={to_kubelets.cert}",
            f"--kubelet-client-key={to_kubelets.key}", "--kubelet-preferred-address-types=InternalIP",
            f"--default-not-ready-toleration-seconds={stand.eviction_s}",
            f"--default-unreachable-toleration-seconds={stand.eviction_s}", "--profiling=false",
        ],
        "controller-manager": [
            f"{state}/bin/kube-controller-manager", f"--kubeconfig={manager}", "--leader-elect=false",
            f"--service-account-private-key-file={keys}", f"--root-ca-file={authority.file}",
            f"--bind-address={plan.CONTROL}", f"--node-monitor-grace-period={stand.node_grace_s}s",
            f"--node-monitor-period={plan.NODE_MONITOR_S}s", "--profiling=false", "--kube-api-qps=200", "--kube-api-burst=400",
        ],
    }  # fmt: skip
    if not stand.control_plane_only:
        commands["scheduler"] = [
            f"{state}/bin/kube-scheduler", f"--kubeconfig={scheduler}", "--leader-elect=false",
            f"--bind-address={plan.CONTROL}", "--kube-api-qps=200", "--kube-api-burst=400", "--profiling=false",
        ]  # fmt: skip
        commands["coredns"] = [f"{state}/bin/coredns", "-conf", str(_corefile(stand, authority))]
        commands["registry"] = [f"{state}/bin/registry", "serve", str(_registry(stand))]
    return commands


def _corefile(stand: Stand, authority: Authority) -> Path:
    pair = authority.issue("coredns", "system:coredns")
    config = authority.kubeconfig(stand.state / "pki" / "coredns.conf", pair, "stand")
    path = stand.state / "Corefile"
    # names that are not the cluster's end here: nothing is ever asked of a resolver outside. A block of their own,
    # since in one block `template` answers before `kubernetes` is asked
    path.write_text(f"""\
cluster.local in-addr.arpa {{
    bind {plan.CONTROL}
    errors
    kubernetes {{
        kubeconfig {config} stand
        pods insecure
        ttl 5
    }}
}}
. {{
    bind {plan.CONTROL}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
""")
    return path


def _registry(stand: Stand) -> Path:
    """A registry that answers nobody without a password; the same one for as long as the stand lives."""
    user, password = "hotfire", secrets.token_urlsafe(18)
    # the lowest cost: kubelets present it with each layer, and the password is random
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    htpasswd = secret(stand.state / "htpasswd", f"{user}:{digest}\n")
    address = f"{plan.CONTROL}:{plan.REGISTRY_PORT}"
    secret(stand.registry_file, json.dumps({"address": address, "user": user, "password": password}))
    path = stand.state / "registry.yaml"
    document = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(stand.registry_store)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": address, "secret": secrets.token_hex(16)},
        "auth": {"htpasswd": {"realm": "hotfire", "path": str(htpasswd)}},
    }
    path.write_text(json.dumps(document, indent=1))
    return path


RBAC = "/apis/rbac.authorization.k8s.io/v1"
COREDNS_RIGHTS: Mapping[str, Mapping[str, object]] = {
    f"{RBAC}/clusterroles": {
        "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    },
    f"{RBAC}/clusterrolebindings": {
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    },
}
