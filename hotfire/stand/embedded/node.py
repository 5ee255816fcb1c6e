"""A node's configuration: containerd, CNI, kubelet, kube-proxy, device plugin, and the init that starts them."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hotfire.stand.embedded import cgroups, nodeinit, plan
from hotfire.stand.embedded.pki import Authority
from hotfire.stand.embedded.plan import Node, Stand
from hotfire.stand.embedded.processes import PATH

# Host-wide settings the kubelet would write; the node sees private copies, so that the host's never change.
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}  # fmt: skip
OWN_SYSCTLS = {"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "0", "net/ipv6/conf/all/disable_ipv6": "1"}


def write(stand: Stand, node: Node, authority: Authority) -> None:
    """Write everything the node's init needs into the node's folder."""
    home = stand.node_dir(node)
    for folder in ("run", "var-lib/kubelet/device-plugins", "var-lib/cni", "var-log", "cni", "certs", "sysctl"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    stand.unhealthy_dir(node).mkdir(exist_ok=True)
    for name, value in KUBELET_SYSCTLS.items():
        (home / "sysctl" / name.replace("/", "-")).write_text(f"{value}\n")
    (home / "resolv.conf").write_text(f"nameserver {plan.CONTROL}\n")
    (home / "containerd.toml").write_text(_containerd(stand, node))
    hosts = home / "certs" / f"{plan.CONTROL}:{plan.REGISTRY_PORT}"
    hosts.mkdir(exist_ok=True)
    (hosts / "hosts.toml").write_text(f'server = "http://{plan.CONTROL}:{plan.REGISTRY_PORT}"\n')
    (home / "cni" / "10-hotfire.conflist").write_text(json.dumps(_cni(node), indent=1))
    (home / "kubelet.json").write_text(json.dumps(_kubelet(stand, node, authority), indent=1))
    (home / "init.json").write_text(json.dumps(_init(stand, node, authority), indent=1))


def command(stand: Stand, node: Node) -> Sequence[str]:
    """The command line that is the node: namespaces first, then its init. Killing the init is a power-off."""
    return [
        "nsenter", f"--net=/run/netns/{node.link}",
        "unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc",
        sys.executable, "-I", "-S", str(Path(nodeinit.__file__)), str(stand.node_dir(node) / "init.json"),
    ]  # fmt: skip


def _init(stand: Stand, node: Node, authority: Authority) -> Mapping[str, object]:
    home, binaries = stand.node_dir(node), stand.state / "bin"
    kubelet = authority.issue(f"{node.name}-kubelet", f"system:node:{node.name}", "system:nodes")
    proxy = authority.issue(f"{node.name}-proxy", "system:kube-proxy")
    authority.kubeconfig(home / "kubelet.conf", kubelet, "stand")
    authority.kubeconfig(home / "proxy.conf", proxy, "stand")
    services: dict[str, Sequence[str]] = {
        "kubelet": [
            f"{binaries}/kubelet", f"--config={home}/kubelet.json", f"--kubeconfig={home}/kubelet.conf",
            f"--hostname-override={node.name}", f"--node-ip={node.address}", "--root-dir=/var/lib/kubelet",
            *([f"--node-labels={','.join(f'{k}={v}' for k, v in node.labels.items())}"] if node.labels else []),
        ],
        "kube-proxy": [
            f"{binaries}/kube-proxy", f"--kubeconfig={home}/proxy.conf", f"--hostname-override={node.name}",
            "--proxy-mode=iptables", "--masquerade-all", f"--cluster-cidr={plan.POD_RANGE}",
            f"--bind-address={node.address}", "--metrics-bind-address=127.0.0.1:10249", "--conntrack-max-per-core=0",
            "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
            "--iptables-min-sync-period=200ms",
        ],
    }  # fmt: skip
    if node.gpus:
        services["device-plugin"] = [
            sys.executable, "-m", "hotfire.stand.embedded.deviceplugin", "--folder", "/var/lib/kubelet/device-plugins",
            "--unhealthy", str(stand.unhealthy_dir(node)), *node.devices,
        ]  # fmt: skip
    return {
        "hostname": node.name,
        "keep": [str(stand.state), str(plan.cache())],
        "binds": {"/run": f"{home}/run", "/var/lib": f"{home}/var-lib", "/var/log": f"{home}/var-log"},
        "sysctls": OWN_SYSCTLS,
        "shadows": {f"/proc/sys/{name}": f"{home}/sysctl/{name.replace('/', '-')}" for name in KUBELET_SYSCTLS},
        "logs": str(stand.logs),
        "env": {"PATH": f"{binaries}:{PATH}", "HOME": "/nonexistent"},
        "containerd": [f"{binaries}/containerd", "--config", f"{home}/containerd.toml"],
        "socket": "/run/containerd/containerd.sock",
        "import": [f"{binaries}/ctr", "--namespace", "k8s.io", "images", "import", f"{stand.state}/pause.tar"],
        "go": str(stand.state / "go"),
        "services": services,
    }


def _containerd(stand: Stand, node: Node) -> str:
    home = stand.node_dir(node)
    # oom_score_adj: without CAP_SYS_RESOURCE a lower score cannot be set; opt and nri would write to the host
    return f"""\
version = 3
root = "{stand.bulk}/{node.name}"
state = "/run/containerd"
imports = []
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  use_local_image_pull = true
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{plan.PAUSE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{home}/certs"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  enable_cdi = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{stand.state}/bin"]
    conf_dir = "{home}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{shutil.which("runc", path=PATH)}"
      SystemdCgroup = false
"""


def _cni(node: Node) -> Mapping[str, object]:
    bridge = {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False,
        "ipam": {
            "type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": node.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }  # fmt: skip
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "hotfire", "plugins": [bridge, ports]}


def _kubelet(stand: Stand, node: Node, authority: Authority) -> Mapping[str, object]:
    home = stand.node_dir(node)
    pair = authority.issue(f"{node.name}-serving", f"system:node:{node.name}", serves=[node.address, node.name])
    key, _, rest = plan.TAINT.partition("=")
    value, _, effect = rest.partition(":")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",  # inside the node's own network namespace
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.file)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pair.cert),
        "tlsPrivateKeyFile": str(pair.key),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.CGROUP}/pods/{node.name}",
        **({} if cgroups.unified() else {"failCgroupV1": False}),
        "failSwapOn": False,
        "enforceNodeAllocatable": ["none"],  # it would widen the pods' cpuset again
        "clusterDNS": [plan.CONTROL],
        "clusterDomain": "cluster.local",
        "resolvConf": str(home / "resolv.conf"),
        "registerWithTaints": [{"key": key, "value": value, "effect": effect}] if node.gpus else [],
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,  # renewed each quarter of it
        "configMapAndSecretChangeDetectionStrategy": "Get",  # a watch refused by a restarted API server waits up to 30 s
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        # the host's disk is not ours to judge: no eviction because someone else filled it
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
