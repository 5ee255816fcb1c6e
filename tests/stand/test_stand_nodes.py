"""The embedded stand as its users see it: nodes, devices, registry, network. The observer is /proc and the API."""

import subprocess
from pathlib import Path

import httpx
import pytest

from hotfire.kube.client import Cluster, Object, Ref
from hotfire.stand.embedded import cgroups, pause, plan
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.embedded.patience import until
from hotfire.stand.images import pull_secret, push_layout

TOLERATION = {"key": "ai.workload", "value": "inference", "effect": "NoSchedule"}


def pod(namespace: Object, name: str = "one", gpus: int = 0, image: str = plan.PAUSE, **spec: object) -> Object:
    container = {"name": "main", "image": image, "resources": {"limits": {plan.GPU: str(gpus)} if gpus else {}}}
    container |= {key: spec.pop(key) for key in ("command", "args", "env") if key in spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace["metadata"]["name"]},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], "tolerations": [TOLERATION], **spec},
    }


def running(cluster: Cluster, wanted: Object) -> Object:
    ref = Ref.of(cluster.create(wanted))
    until(f"{ref} runs", lambda: cluster.get(ref)["status"].get("phase") == "Running", 20)
    return cluster.get(ref)


def process_of(live: Object) -> Path:
    """The pod's main process on the host, found by the cgroup that carries its container id."""
    container = live["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    groups = (file for own in cgroups.ours() for file in own.rglob(f"*{container}/cgroup.procs"))
    return Path("/proc", next(file.read_text().split()[0] for file in groups if file.read_text().strip()))


@pytest.fixture
def whole(embedded: Running) -> str:
    """The devices of a GPU node, all healthy."""
    return str(embedded.stand.gpus_per_node)


def test_two_gpu_nodes_carry_label_taint_and_devices_and_one_is_plain(cluster: Cluster, whole: str) -> None:
    nodes = {n["metadata"]["name"]: n for n in cluster.list("v1", "Node")}
    assert sorted(nodes) == ["cpu-1", "gpu-1", "gpu-2"]
    for name in ("gpu-1", "gpu-2"):
        assert nodes[name]["metadata"]["labels"]["accelerator"] == "gpu"
        assert nodes[name]["spec"]["taints"] == [TOLERATION]
        assert nodes[name]["status"]["allocatable"][plan.GPU] == whole
    assert "taints" not in nodes["cpu-1"]["spec"] and plan.GPU not in nodes["cpu-1"]["status"]["allocatable"]


def test_a_pod_is_granted_the_devices_it_asks_for(embedded: Running, cluster: Cluster, namespace: Object) -> None:
    live = running(cluster, pod(namespace, gpus=2, nodeSelector={"accelerator": "gpu"}))
    environment = (process_of(live) / "environ").read_bytes().decode().split("\0")
    granted = dict(entry.split("=", 1) for entry in environment if entry)["NVIDIA_VISIBLE_DEVICES"].split(",")
    node = live["spec"]["nodeName"]
    assert len(set(granted)) == 2 and set(granted) <= set(embedded.stand.node(node).devices)


def test_a_pod_that_asks_for_more_devices_than_a_node_has_stays_pending(
    cluster: Cluster, namespace: Object, whole: str
) -> None:
    ref = Ref.of(cluster.create(pod(namespace, gpus=int(whole) + 1)))

    def refused() -> str:
        conditions = cluster.get(ref)["status"].get("conditions", [])
        return next((c.get("message", "") for c in conditions if c.get("reason") == "Unschedulable"), "")

    assert f"Insufficient {plan.GPU}" in until("the scheduler has said no", refused, 10)


def test_pods_and_the_rest_of_the_stand_do_not_share_a_cpu(embedded: Running, cluster: Cluster, namespace: Object) -> None:
    system, pods = cgroups.cpus()
    of_pod = (process_of(running(cluster, pod(namespace))) / "status").read_text()
    of_node = Path(f"/proc/{embedded.init('cpu-1')}/status").read_text()
    assert f"Cpus_allowed_list:\t{','.join(map(str, pods))}\n" in of_pod
    assert f"Cpus_allowed_list:\t{','.join(map(str, system))}\n" in of_node


def allocatable(cluster: Cluster, node: str) -> str:
    return str(cluster.get(Ref("v1", "Node", "", node))["status"]["allocatable"].get(plan.GPU))


def less(whole: str) -> str:
    return str(int(whole) - 1)


def test_an_unhealthy_device_leaves_the_nodes_allocatable_and_comes_back(embedded: Running, cluster: Cluster, whole) -> None:
    embedded.devices_unhealthy("gpu-2", "GPU-sim-gpu-2-1")
    until("one device is gone", lambda: allocatable(cluster, "gpu-2") == less(whole), 10)
    embedded.devices_unhealthy("gpu-2")
    until("all devices are back", lambda: allocatable(cluster, "gpu-2") == whole, 10)


def daemon(embedded: Running, node: str, program: str) -> int:
    """Host pid of a child of the node's init."""
    children = Path(f"/proc/{embedded.init(node)}/task/{embedded.init(node)}/children").read_text().split()
    return next((int(c) for c in children if program in Path(f"/proc/{c}/cmdline").read_text().split("\0")[0]), 0)


def test_devices_are_registered_again_when_the_kubelet_restarts(embedded: Running, cluster: Cluster, whole) -> None:
    before = daemon(embedded, "gpu-1", "kubelet")
    embedded.devices_unhealthy("gpu-1", "GPU-sim-gpu-1-0")
    subprocess.run(["kill", "-9", str(before)], check=True)
    until("another kubelet runs", lambda: daemon(embedded, "gpu-1", "kubelet") not in (0, before), 10)
    until("the plugin has told the new kubelet", lambda: allocatable(cluster, "gpu-1") == less(whole), 20)
    embedded.devices_unhealthy("gpu-1")
    until("all devices are back", lambda: allocatable(cluster, "gpu-1") == whole, 20)


@pytest.fixture(scope="session")
def private_image(embedded: Running, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pause image in the stand's registry, put there by the distribution protocol."""
    archive = pause.write(tmp_path_factory.mktemp("image") / "image.tar", "private/pause:1")
    folder = archive.parent / "layout"
    folder.mkdir()
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)
    push_layout(embedded.registry, folder, "private/pause", "1")
    return f"{embedded.registry.address}/private/pause:1"


def test_the_registry_refuses_whoever_has_no_password(embedded: Running, private_image: str) -> None:
    base = f"http://{embedded.registry.address}/v2/"
    assert httpx.get(base).status_code == 401
    assert httpx.get(f"{base}private/pause/manifests/1").status_code == 401
    assert httpx.get(base, auth=(embedded.registry.user, "guess")).status_code == 401
    assert httpx.get(base, auth=(embedded.registry.user, embedded.registry.password)).status_code == 200


def test_a_kubelet_is_refused_an_image_without_a_secret(cluster: Cluster, namespace: Object, private_image: str) -> None:
    ref = Ref.of(cluster.create(pod(namespace, image=private_image)))

    def waiting() -> str:
        states = cluster.get(ref)["status"].get("containerStatuses", [])
        return str(states[0]["state"].get("waiting", {}).get("message", "")) if states else ""

    assert "no basic auth credentials" in until("the pull has failed", lambda: "pull" in waiting() and waiting(), 20)


def test_a_kubelet_pulls_with_the_imagepullsecret(
    embedded: Running, cluster: Cluster, namespace: Object, private_image: str
) -> None:
    secret = pull_secret(embedded.registry, "regcred")
    secret["metadata"]["namespace"] = namespace["metadata"]["name"]
    cluster.create(secret)
    live = running(cluster, pod(namespace, image=private_image, imagePullSecrets=[{"name": "regcred"}]))
    assert "/private/pause@sha256:" in live["status"]["containerStatuses"][0]["imageID"]


def kubectl(embedded: Running, *argv: str) -> str:
    command = [str(embedded.kubectl), "--kubeconfig", str(embedded.kubeconfig), *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def test_a_pod_reaches_the_api_by_its_service_name(
    embedded: Running, cluster: Cluster, namespace: Object, tmp_path: Path
) -> None:
    """Cluster DNS, Service address, kube-proxy and ServiceAccount token in one go; then its log, by the kubelet."""
    image = "hotfire.local/kubectl:1"
    binary = embedded.kubectl.resolve()
    embedded.load(pause.write(tmp_path / "kubectl.tar", image, binary))
    by_name = [{"name": "KUBERNETES_SERVICE_HOST", "value": "kubernetes.default.svc.cluster.local"}]
    spec = {"command": ["/pause"], "args": ["get", "--raw", "/version"], "env": by_name, "restartPolicy": "Never"}
    name = namespace["metadata"]["name"]
    ref = Ref.of(cluster.create(pod(namespace, image=image, **spec)))
    until(f"{ref} has ended", lambda: cluster.get(ref)["status"]["phase"] in ("Succeeded", "Failed"), 30)
    assert '"gitVersion": "v1.36.3"' in kubectl(embedded, "logs", "-n", name, "one")


def test_a_command_can_be_executed_in_a_pod(embedded: Running, cluster: Cluster, namespace: Object) -> None:
    running(cluster, pod(namespace))
    told = kubectl(embedded, "exec", "-n", namespace["metadata"]["name"], "one", "--", "/pause", "--version")
    assert "catatonit" in told


def reaches(address: str, namespace: str = "") -> bool:
    enter = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    return subprocess.run([*enter, "ip", "route", "get", address], capture_output=True, check=False).returncode == 0


def test_no_packet_of_the_stand_has_a_way_off_the_machine(embedded: Running) -> None:
    assert reaches("198.18.131.1", "hf-gpu-1") and reaches(plan.CONTROL, "hf-gpu-1")
    for elsewhere in ("8.8.8.8", "192.0.2.1", "10.0.0.1", "198.18.200.9"):
        assert not reaches(elsewhere, "hf-gpu-1"), elsewhere
    assert not reaches("198.18.200.9")  # from the host, a pod of no node


def ready(cluster: Cluster, node: str) -> str:
    conditions = cluster.get(Ref("v1", "Node", "", node))["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


def test_a_node_that_loses_power_is_not_ready_in_seconds_and_comes_back(
    embedded: Running, cluster: Cluster, namespace: Object, whole: str
) -> None:
    live = running(cluster, pod(namespace, gpus=1, nodeName="gpu-2", terminationGracePeriodSeconds=0))
    process = process_of(live)
    embedded.power_off("gpu-2")
    assert not process.exists()
    until("the node is known to be lost", lambda: ready(cluster, "gpu-2") == "Unknown", 12)
    embedded.power_on("gpu-2")
    until("the node is Ready again", lambda: ready(cluster, "gpu-2") == "True", 20)
    until("its devices are back", lambda: allocatable(cluster, "gpu-2") == whole, 20)
    running(cluster, pod(namespace, "two", gpus=1, nodeSelector={"kubernetes.io/hostname": "gpu-2"}))


def test_a_partitioned_node_is_not_ready_while_its_pods_run_on(embedded: Running, cluster: Cluster, namespace: Object) -> None:
    process = process_of(running(cluster, pod(namespace, nodeName="gpu-1")))
    embedded.cut("gpu-1")
    until("the node is known to be lost", lambda: ready(cluster, "gpu-1") == "Unknown", 12)
    assert process.exists()
    embedded.join("gpu-1")
    until("the node is Ready again", lambda: ready(cluster, "gpu-1") == "True", 20)
    assert process.exists()
