"""candidate: what was rolled out, and whether anything else answers in its name."""

import base64
import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence

from hotfire.check import Findings, saw
from hotfire.kube.client import ApiError, Cluster, NotFound, Object
from hotfire.kube.logs import read_logs
from hotfire.kube.wait import Late, pause, wait_for
from hotfire.plugin.nouns.pods import CandidatePods, complete, name, secret_value
from hotfire.rollout.population import Population, endpoints
from hotfire.rollout.probes import probe_pod
from hotfire.scenario.images import containers
from hotfire.scenario.model import InjectedSecret, Located, Serves

LEAVE_S, CATCH_UP_S = 40.0, 3.0  # seconds: the default grace of 30 s and a kubelet's rest / after the last one left
PROBE_WAIT = 6.0  # seconds in which the scheduler must have refused a pod that nothing can fit


class Candidate:
    """The noun of suites 30 to 50."""

    def __init__(self, cluster: Cluster, located: Located, namespace: str, anchor: Object, applied: float) -> None:
        self.cluster, self.located, self.namespace, self.anchor = cluster, located, namespace, anchor
        self.scenario = located.scenario
        self.leave_within = LEAVE_S
        self.pods = CandidatePods(cluster, namespace, self.scenario, applied)

    def asked_images(self) -> set[str]:
        """Digests that the manifests name."""
        return {str(item["image"]).rpartition("@")[2] for obj in self.located.objects for item in containers(obj)}

    def strangers(self) -> Findings:
        """Endpoints that are no pod of this rollout, and pods of it that run another image than was asked for.

        A rollout that surges is Ready before the pods it replaces are gone: those get the time that leaving takes, and the
        controller of the endpoints a moment to notice.
        """
        began = gone = time.monotonic()
        while (wrong := self._unlike(populations := self.pods.populations())) and all(map(complete, populations.values())):
            now = time.monotonic()
            gone = now if any(found.others for found in populations.values()) else gone
            if now - began > self.leave_within or now - gone > CATCH_UP_S:
                break
            pause(0.2)
        for serves, found in populations.items():
            saw("serving-pod", len(found.pods), sorted(map(name, found.pods)), f"all that {serves.service} reaches")
        return Findings(wrong)

    def _unlike(self, populations: Mapping[Serves, Population]) -> list[str]:
        wrong, asked = list[str](), self.asked_images()
        for serves, found in populations.items():
            mine = {pod["metadata"]["uid"]: pod for pod in found.pods}
            behind = endpoints(self.cluster, self.namespace, serves.service)
            uids = {(item.get("targetRef") or {}).get("uid"): item for item in behind}
            for uid, item in uids.items():
                if uid not in mine:
                    who = (item.get("targetRef") or {}).get("name", item.get("addresses"))
                    wrong.append(f"{serves.service} reaches {who}, which is not of this rollout")
            for uid, pod in mine.items():
                if uid not in uids:
                    wrong.append(f"{name(pod)} is not behind {serves.service}")
                for status in pod["status"].get("containerStatuses") or ({"name": "none"},):
                    digest = str(status.get("imageID", "")).rpartition("@")[2]
                    if digest not in asked:
                        wrong.append(f"{name(pod)}/{status['name']} runs image {digest or 'unknown'}, {sorted(asked)} is asked")
        return wrong

    def nodes_open_to_intolerant_pods(self) -> Findings:
        """Nodes of the candidate on which a pod without its tolerations was admitted: the taint does not protect them.

        The probe asks for the very nodes the candidate is on (facts: H15, a probe that lands elsewhere proves nothing).
        """
        nodes = sorted({str(pod["spec"]["nodeName"]) for pod in self.pods.now()})
        image = next(iter(containers(self.located.objects[self._workload_index()])))["image"]
        with probe_pod(self.cluster, self.namespace, self.anchor, "isolation", image=image, nodes=nodes) as probe:
            try:
                landed = wait_for(
                    self.cluster, "the probe pod refused", "v1", "Pod", self.namespace,
                    fields=f"metadata.name={probe.name}", until=_scheduled_or_refused, deadline_s=PROBE_WAIT,
                )  # fmt: skip
            except Late as late:
                return Findings([f"the scheduler said nothing of {probe.name}: {late}"], blame=None)
        saw("probe-pod", len(nodes), {"asked for": nodes, "landed on": landed}, "refused everywhere")
        return Findings([f"{landed} took a pod without the declared tolerations"] if landed else [])

    def _workload_index(self) -> int:
        serves = self.scenario.candidate.serves[0]
        kinds = [(obj["kind"], obj["metadata"]["name"]) for obj in self.located.objects]  # type: ignore[index]
        return kinds.index((serves.kind, serves.name))

    def places_leaking(self, secret: InjectedSecret) -> Findings:
        """Declared places that hold the value, in clear, as base64 or URL-encoded."""
        value = secret_value(self.cluster, self.namespace, secret.name, secret.key)
        forms = {value, base64.b64encode(value.encode()).decode(), urllib.parse.quote(value, safe="")}
        wrong = Findings()
        for place in secret.never_in:
            texts = self._texts(place)
            leaking = [where for where, text in texts if any(form in text for form in forms)]
            saw("place", 1, {place: f"{len(texts)} texts read, {sum(len(text) for _, text in texts)} characters"})
            wrong += [f"{place}: {where} holds the value of {secret.name}/{secret.key}" for where in leaking]
        return wrong

    def _texts(self, place: str) -> Sequence[tuple[str, str]]:
        if place == "manifests":
            secrets = [obj for obj in self.located.objects if obj["kind"] != "Secret"]
            return [(f"{obj['kind']}/{obj['metadata']['name']}", json.dumps(obj)) for obj in secrets]  # type: ignore[index]
        if place == "events":
            return [(f"event {item['metadata']['name']}", json.dumps(item)) for item in self._events()]
        pods = self.pods.now()
        if place == "logs":
            return [(f"log of {who}", text) for pod in pods for who, text in read_logs(self.cluster, pod).items()]
        return [(f"metrics of {name(pod)}", self._metrics(pod)) for pod in pods]

    def _events(self) -> list[Object]:
        return self.cluster.list("v1", "Event", self.namespace)

    def _metrics(self, pod: Object) -> str:
        """The runtime's metrics page through the API server's pod proxy; a runtime without one has nothing to leak."""
        ports = [port["containerPort"] for item in pod["spec"]["containers"] for port in item.get("ports") or ()]
        try:
            path = f"/api/v1/namespaces/{self.namespace}/pods/{name(pod)}:{ports[0] if ports else 80}/proxy/metrics"
            return self.cluster.text("GET", path)
        except (NotFound, ApiError):
            return ""


def _scheduled_or_refused(objects: dict[str, Object]) -> str | None:
    """The node's name, or an empty string once the scheduler has said no; None while it has said nothing."""
    for pod in objects.values():
        if pod["spec"].get("nodeName"):
            return str(pod["spec"]["nodeName"])
        for condition in pod.get("status", {}).get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                return ""
    return None
