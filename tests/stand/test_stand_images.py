"""The recipes' images on real kubelets: pulled by digest with the secret, refused without, and serving what they say."""

from collections.abc import Mapping

import pytest

from hotfire.kube.client import Cluster, Object, Ref
from hotfire.runtimes.client import RuntimeClient
from hotfire.stand.embedded import plan
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.embedded.patience import until
from hotfire.stand.images import NAMES, pull_secret, push_all

TOLERATION = {"key": "ai.workload", "value": "inference", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def pushed(embedded: Running, terminal) -> Mapping[str, str]:
    return push_all(embedded.registry, terminal)


def pod(namespace: Object, image: str, *args: str, memory: str = "640Mi", secret: bool = True) -> Object:
    """One GPU, one port, Ready when it answers /health."""
    container = {
        "name": "server", "image": image, "args": ["--port", "8080", *args],
        "resources": {"requests": {"cpu": "10m", "memory": memory}, "limits": {"memory": memory, plan.GPU: "1"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    spec = {
        "containers": [container], "nodeSelector": {"accelerator": "gpu"}, "tolerations": [TOLERATION],
        "imagePullSecrets": [{"name": "registry"}] if secret else [], "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
    }  # fmt: skip
    meta = {"name": "one", "namespace": namespace["metadata"]["name"], "labels": {"app": "one"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def with_secret(embedded: Running, cluster: Cluster, namespace: Object) -> None:
    secret = pull_secret(embedded.registry, "registry")
    secret["metadata"]["namespace"] = namespace["metadata"]["name"]
    cluster.create(secret)


def container(cluster: Cluster, ref: Ref) -> Object:
    return next(iter(cluster.get(ref)["status"].get("containerStatuses", [])), {})


def service(cluster: Cluster, namespace: Object) -> str:
    """A Service before the pod; its URL, which answers to the host."""
    meta = {"name": "one", "namespace": namespace["metadata"]["name"]}
    spec = {"selector": {"app": "one"}, "ports": [{"port": 80, "targetPort": 8080}]}
    made = cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    return f"http://{made['spec']['clusterIP']}"


@pytest.mark.parametrize(("image", "runtime", "args"), [
    ("tiny", "tiny", ["--model", "m", "--answer", "It is Paris."]),
    ("llamacpp", "llamacpp", ["--model-alias", "m", "--threads", "1"]),
])  # fmt: skip
def test_an_image_is_pulled_with_the_secret_and_keeps_its_contract(
    embedded: Running, cluster: Cluster, namespace: Object, pushed: Mapping[str, str], image: str, runtime: str, args: list[str]
) -> None:
    with_secret(embedded, cluster, namespace)
    url = service(cluster, namespace)
    ref = Ref.of(cluster.create(pod(namespace, pushed[image], *args)))
    until(f"{ref} is Ready", lambda: container(cluster, ref).get("ready"), 60)
    assert container(cluster, ref)["imageID"] == pushed[image] and container(cluster, ref)["restartCount"] == 0
    asks = RuntimeClient(url, runtime, "m", timeout=10)
    until("the Service answers", lambda: asks.health().state == "serving", 10)
    assert asks.identity() == "m"
    for stream in (True, False):
        answer = asks.complete("What is the capital of France? Answer with one word.", 12, stream)
        assert answer.breaches() == [] and "Paris" in answer.text


@pytest.mark.parametrize("image", NAMES)
def test_an_image_is_refused_without_the_secret(
    cluster: Cluster, namespace: Object, pushed: Mapping[str, str], image: str
) -> None:
    ref = Ref.of(cluster.create(pod(namespace, pushed[image], secret=False)))

    def waiting() -> str:
        return str(container(cluster, ref).get("state", {}).get("waiting", {}).get("message", ""))

    assert "no basic auth credentials" in until("the pull has failed", lambda: "pull" in waiting() and waiting(), 30)


def test_llamacpp_is_killed_by_the_kernel_where_its_weights_do_not_fit(
    embedded: Running, cluster: Cluster, namespace: Object, pushed: Mapping[str, str]
) -> None:
    with_secret(embedded, cluster, namespace)
    ref = Ref.of(cluster.create(pod(namespace, pushed["llamacpp"], memory="64Mi")))

    def ended() -> Object | None:
        status = container(cluster, ref)
        found = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
        return found if isinstance(found, dict) else None

    end = until("it has ended", ended, 60)
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)
