"""candidate.pods: the pods of this rollout, as the API server and the containers themselves show them."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

from hotfire.check import Findings, saw
from hotfire.errors import Unjudged
from hotfire.gates.blame import Facts, attribute
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.exec import run_in
from hotfire.kube.pods import condition, fits, grade, is_ready, stamp
from hotfire.kube.wait import Late, wait_for
from hotfire.rollout.population import Population, serving
from hotfire.scenario.model import InjectedSecret, Scenario
from hotfire.scenario.serves import Serves
from hotfire.words import Blame, Grade, Reason

ENVIRONMENT, NVIDIA = "/proc/1/environ", "nvidia.com/"

Pods = Sequence[Object]


def name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def complete(found: Population) -> bool:
    """Whether every pod of the newest template is there and Ready."""
    return bool(found.owner_uid) and len(found.pods) == found.wanted and all(map(is_ready, found.pods))


class CandidatePods:
    """Every pod of every workload that the candidate serves with."""

    def __init__(self, cluster: Cluster, namespace: str, scenario: Scenario, applied: float | None = None) -> None:
        """applied: when the deploy was made (time.monotonic()); waits count from it, else from their own beginning."""
        self.applied = applied
        self.cluster, self.namespace, self.serves = cluster, namespace, scenario.candidate.serves
        self.scheduling, self.start_within = scenario.scheduling, scenario.startup.ready_within

    def populations(self) -> dict[Serves, Population]:
        """Read now, workload by workload."""
        return {serves: serving(self.cluster, serves, self.namespace) for serves in self.serves}

    def now(self) -> list[Object]:
        return [pod for found in self.populations().values() for pod in found.pods]

    def serving(self) -> list[Object]:
        """The population that `per serving-pod` evidence is counted against; raises Unjudged when it is empty."""
        pods = self.now()
        saw("serving-pod", len(pods), [name(pod) for pod in pods])
        return pods

    def each(self, value: object) -> dict[str, object]:
        """The same value for each pod: what `granted()` is compared with."""
        return {name(pod): value for pod in self.now()}

    def disturbed(self, since: float) -> list[str]:
        """What the platform did to them since then (time.time())."""
        nodes, pods = self.cluster.list("v1", "Node"), self.now()
        lines = [line for pod in pods for line in Facts.of_pod(pod, self.scheduling, nodes).platform]
        homes = {pod["spec"].get("nodeName") for pod in pods}
        for node in nodes:
            changed = condition(node, "Ready").get("lastTransitionTime")
            if changed and node["metadata"]["name"] in homes and stamp(changed).timestamp() >= since:
                lines.append(f"node {node['metadata']['name']} changed its readiness at {changed}, under the load")
        return list(dict.fromkeys(lines))

    # -- scheduling -----------------------------------------------------------------------------------------------

    def unscheduled(self, within: float) -> Findings:
        """Pods without a node after `within` seconds; stops early when no node can ever fit one.

        A rollout that makes its next pod only when the last one is Ready is waited for as long; pods it has not made by
        then wait for no node, and are startup's to judge.
        """
        found = self._wait("serving-pod", "scheduled", within, _scheduled)
        made = self.now()
        if found and made and all(map(_scheduled, made)):
            saw("serving-pod", len(made), {name(pod): pod["spec"]["nodeName"] for pod in made}, "those made so far")
            return Findings()
        return found

    def not_ready(self, within: float) -> Findings:
        """Pods that are not Ready after `within` seconds; stops early on what no restart can clear."""
        return self._wait("ready-pod", "ready", within, is_ready)

    def _wait(self, noun: str, what: str, within: float, done: Callable[[Object], bool]) -> Findings:
        def until(objects: Mapping[str, Object]) -> Pods | None:
            found = list(self.populations().values())
            complete = all(one.owner_uid and len(one.pods) == one.wanted and all(map(done, one.pods)) for one in found)
            return [pod for one in found for pod in one.pods] if complete else None

        before = time.monotonic() - self.applied if self.applied is not None else 0.0
        try:
            pods = wait_for(
                self.cluster, f"every pod {what}", "v1", "Pod", self.namespace,
                until=until, deadline_s=max(within - before, 0.5), give_up=self._hopeless,
            )  # fmt: skip
        except Late as late:
            return self._late(noun, what, within, late, before + late.after_s, done)
        saw(noun, len(pods), {name(pod): pod["spec"].get("nodeName") for pod in pods}, f"{what} within {within:g} s")
        return Findings()

    def _hopeless(self, objects: Mapping[str, Object]) -> str | None:
        """Why waiting on is pointless, or None."""
        for pod in self.now():
            seen = grade(pod)
            if seen.grade is Grade.TERMINAL:
                return f"{name(pod)}: {seen.why}"
            if not pod["spec"].get("nodeName") and seen.unschedulable:
                nodes = self.cluster.list("v1", "Node")
                if not any(fits(pod, [node], [])[0] for node in nodes):
                    return f"{name(pod)}: no node can ever fit it"
        return None

    def _late(self, noun: str, what: str, within: float, late: Late, after: float, done: Callable[[Object], bool]) -> Findings:
        found = list(self.populations().values())
        pods = [pod for one in found for pod in one.pods]
        wanted = sum(one.wanted for one in found)
        ready = sum(map(done, pods))
        lines = [f"{name(pod)}  {grade(pod).line}" for pod in pods]
        blames = {self._blame(pod) for pod in pods if not done(pod)} or {(Blame.UNKNOWN, "no pod was made")}
        blame, rule = sorted(blames)[0]
        lines += [late.stopped_early] if late.stopped_early else []
        headline = f"{ready} of {wanted} pods {what} after {after:.0f}s (limit {within:g}s), blame: {blame} ({rule})"
        return Findings([*lines, rule], headline, blame, {name(pod): grade(pod).line for pod in pods}, f"{wanted} {what}")

    def _blame(self, pod: Object) -> tuple[Blame, str]:
        return attribute(Facts.of_pod(pod, self.scheduling, self.cluster.list("v1", "Node")))

    def granted(self) -> dict[str, object]:
        """Pod -> {resource: how many devices its containers were really given}, read inside the container."""
        self._running()
        found: dict[str, object] = {}
        for pod in self.serving():
            given: dict[str, int] = {}
            for container in pod["spec"]["containers"]:
                asked = [one for one in container.get("resources", {}).get("limits", {}) if "/" in one]
                if unknown := [one for one in asked if not one.startswith(NVIDIA)] or (asked if len(asked) > 1 else []):
                    text = f"{name(pod)}/{container['name']}: what was granted of {', '.join(unknown)} is not told inside it"
                    raise Unjudged(text, reason=Reason.NO_DATA, blame=Blame.UNKNOWN)
                for resource in asked:
                    given[resource] = given.get(resource, 0) + len(self._devices(pod, container["name"]))
            found[name(pod)] = given
            saw("device-grant", sum(given.values()) and 1, {name(pod): given})
        return found

    def _running(self) -> None:
        """Wait until every container runs. Raises Unjudged, with the blame by rule, when one will not."""
        late = self._wait("started-pod", "running", self.start_within, _started)
        if late:
            raise Unjudged(late.headline, reason=Reason.NO_DATA, blame=late.blame or Blame.UNKNOWN, details=late)

    def _devices(self, pod: Object, container: str) -> list[str]:
        """Ids of the granted devices, from the variable that device plugins set (NVIDIA container toolkit)."""
        value = self._variables(pod, container).get("NVIDIA_VISIBLE_DEVICES", "")
        if value == "all" or "/" in value:  # an image's own default, or a path: neither says what was granted
            text = f"{name(pod)}/{container}: NVIDIA_VISIBLE_DEVICES is {value}: what was granted is not told"
            raise Unjudged(text, reason=Reason.NO_DATA, blame=Blame.UNKNOWN)
        return [device for device in value.split(",") if device not in ("", "void", "none")]

    def _variables(self, pod: Object, container: str) -> dict[str, str]:
        """The environment of the container's first process. Raises Unjudged when it may not be read."""
        text = self._file(pod, container, ENVIRONMENT)
        return dict(line.partition("=")[::2] for line in text.split("\0"))

    def _file(self, pod: Object, container: str, path: str) -> str:
        """Its content, empty for one that is not there, as the environment always is. Raises Unjudged when it may not be
        read."""
        ended = run_in(self.cluster, self.namespace, name(pod), container, ["cat", path], deadline_s=10)
        text = ended.stdout
        if ended.code != 0 and (path == ENVIRONMENT or "No such file" not in ended.complained):
            said = f"{name(pod)}/{container}: {path} cannot be read: {ended.complained.strip()[:200]}"
            raise Unjudged(said, reason=Reason.NO_DATA, blame=Blame.UNKNOWN)
        return text if ended.code == 0 else ""

    def on_other_nodes_than(self, labels: Mapping[str, str]) -> Findings:
        """Pods whose node lacks one of the declared labels."""
        wrong = Findings(expected=dict(labels))
        for pod in self.serving():
            node = self.cluster.get(Ref("v1", "Node", "", pod["spec"]["nodeName"]))
            has = {key: node["metadata"].get("labels", {}).get(key) for key in labels}
            saw("node", 1, {name(pod): {node["metadata"]["name"]: has}}, dict(labels))
            if has != dict(labels):
                wrong.append(f"{name(pod)} is on {node['metadata']['name']} with {has}, {dict(labels)} is expected")
        return wrong

    def without_tolerations(self, declared: Sequence[str]) -> Findings:
        """Declared tolerations (`key=value:Effect`) that a pod lacks, or whose taint its node does not carry."""
        wrong = Findings(expected=list(declared))
        for pod in self.serving():
            node = self.cluster.get(Ref("v1", "Node", "", pod["spec"]["nodeName"]))
            for text in declared:
                key, value, effect = taint(text)
                tolerated = any(_tolerates(item, key, value, effect) for item in pod["spec"].get("tolerations") or ())
                tainted = (key, value, effect) in taints(node)
                saw("toleration", 1, {name(pod): {"tolerated": tolerated, "node": tainted}}, text)
                if not tolerated:
                    wrong.append(f"{name(pod)} does not tolerate {text}")
                if not tainted:
                    wrong.append(f"{node['metadata']['name']} of {name(pod)} does not carry the taint {text}")
        return wrong

    # -- startup --------------------------------------------------------------------------------------------------

    def restarted_more_than(self, allowed: int) -> Findings:
        """Containers with more restarts than allowed, by name, never by position."""
        wrong = Findings(expected=allowed)
        for pod in self.serving():
            statuses = pod["status"].get("containerStatuses") or ()
            saw("container", len(statuses), {f"{name(pod)}/{one['name']}": one["restartCount"] for one in statuses}, allowed)
            for status in statuses:
                if status["restartCount"] > allowed:
                    died = (status.get("lastState", {}).get("terminated") or {}).get("reason", "unknown")
                    wrong.append(f"{name(pod)}/{status['name']}: {status['restartCount']} restarts, last by {died}")
        return wrong

    # -- secrets --------------------------------------------------------------------------------------------------

    def without_secret(self, secret: InjectedSecret) -> Findings:
        """Pods whose serving container does not hold the value; compared by hash, the value is never written."""
        wanted = self._digest_of(secret)
        wrong = Findings()
        place, _, where = secret.as_.partition(" ")
        for serves, found in self.populations().items():
            for pod in found.pods:
                container = serves.container or pod["spec"]["containers"][0]["name"]
                value = self._variables(pod, container).get(where, "") if place == "env" else self._file(pod, container, where)
                same = hashlib.sha256(value.encode()).hexdigest() == wanted
                saw("serving-pod", 1)
                saw("secret", 1, {name(pod): "as in the Secret" if same else "missing or different"}, secret.as_)
                if not same:
                    wrong.append(f"{name(pod)}: {secret.as_} does not hold {secret.name}/{secret.key}")
        return wrong

    def _digest_of(self, secret: InjectedSecret) -> str:
        value = secret_value(self.cluster, self.namespace, secret.name, secret.key)
        return hashlib.sha256(value.encode()).hexdigest()


def secret_value(cluster: Cluster, namespace: str, secret: str, key: str) -> str:
    """One value of a Secret. Raises Unjudged (NO_DATA) when the key is not there."""
    import base64

    data = cluster.get(Ref("v1", "Secret", namespace, secret)).get("data") or {}
    if key not in data:
        raise Unjudged(f"Secret {secret} has no key {key}", reason=Reason.NO_DATA, blame=Blame.CANDIDATE)
    return base64.b64decode(data[key]).decode()


def _scheduled(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName"))


def _started(pod: Object) -> bool:
    states = pod.get("status", {}).get("containerStatuses") or ()
    return bool(states) and all("running" in one.get("state", {}) for one in states)


def taint(text: str) -> tuple[str, str, str]:
    """key=value:Effect, as kubectl taint writes it."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return key, value, effect


def taints(node: Object) -> set[tuple[str, str, str]]:
    """Key, value and effect of each that a node carries."""
    return {(one["key"], one.get("value", ""), one["effect"]) for one in node["spec"].get("taints") or ()}


def _tolerates(toleration: Mapping[str, str], key: str, value: str, effect: str) -> bool:
    """The rule of the Kubernetes doc: an empty key with Exists tolerates all, an empty effect matches every effect."""
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key", "") in ("", key)
    return (toleration.get("key"), toleration.get("value", "")) == (key, value)
