"""candidate: what was rolled out, and whether anything else answers in its name."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence

from hotfire.check import Findings, saw
from hotfire.errors import Unjudged
from hotfire.kube.client import ApiError, Cluster, Object, Ref
from hotfire.kube.fit import selects, tainted
from hotfire.kube.logs import read_logs
from hotfire.kube.pods import condition
from hotfire.kube.wait import Late, pause, wait_for
from hotfire.plugin.nouns.pods import CandidatePods, complete, name, secret_value, taint, taints
from hotfire.record.redactor import Redactor
from hotfire.rollout.metrics import page
from hotfire.rollout.population import Population, endpoints
from hotfire.rollout.probes import probe_pod
from hotfire.runtimes import contract_of
from hotfire.scenario.images import containers, templates
from hotfire.scenario.model import InjectedSecret, Located
from hotfire.scenario.serves import Serves
from hotfire.words import Blame, Reason

LEAVE_S, CATCH_UP_S = 40.0, 3.0  # seconds: the default grace of 30 s and a kubelet's rest / after the last one left
LONGEST = 16 << 20  # bytes of a log that is searched; a kubelet begins another at 10 MiB (containerLogMaxSize)
NO_HTTP = "malformed HTTP response"  # Go's net/http of a port that speaks something else, such as gRPC: no page is there
NO_PAGE = (404, 501)  # a server's own word that it has no such page; 501: llama.cpp without --metrics
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
            seen = {name(pod): sorted(one["name"] for one in pod["spec"]["containers"]) for pod in found.pods}
            saw("serving-pod", len(found.pods), seen, f"all that {serves.service} reaches")
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
            written = {one["name"] for template in templates(found.workload) for one in template["spec"]["containers"]}
            for uid, pod in mine.items():
                here = {one["name"] for one in pod["spec"]["containers"]}
                injected = here - written if written else set()  # by a webhook, as a mesh does
                if uid not in uids and (found.ready is None or self._chosen(serves.service, pod)):
                    wrong.append(f"{name(pod)} is not behind {serves.service}")
                statuses = {one["name"]: one for one in pod["status"].get("containerStatuses") or ()}
                for container in sorted(here - injected):
                    digest = str(statuses.get(container, {}).get("imageID", "")).rpartition("@")[2]
                    if digest not in asked:
                        wrong.append(f"{name(pod)}/{container} runs image {digest or 'unknown'}, {sorted(asked)} is asked")
        return wrong

    def _chosen(self, service: str, pod: Object) -> bool:
        """Whether the Service selects it: of another kind's pods not all need serve, a group's leader may for all."""
        selector = self.cluster.get(Ref("v1", "Service", self.namespace, service))["spec"].get("selector") or {}
        return selects({"matchLabels": selector}, pod["metadata"].get("labels") or {})

    def nodes_open_to_intolerant_pods(self, declared: Sequence[str]) -> Findings:
        """Nodes of the candidate on which a pod without its tolerations was admitted: the taint does not protect them.

        declared: tolerations (`key=value:Effect`). The probe asks for the very nodes the candidate is on (facts: H15, a probe
        that lands elsewhere proves nothing). Raises Unjudged where one of them may have refused it for anything but a
        declared taint: a node that is full, cordoned or not ready today keeps nobody out tomorrow.
        """
        nodes = sorted({str(pod["spec"]["nodeName"]) for pod in self.pods.now()})
        image = next(iter(containers(self.located.objects[self._workload_index()])))["image"]
        with probe_pod(self.cluster, self.namespace, self.anchor, "isolation", image=image, nodes=nodes) as probe:
            try:
                landed, said = wait_for(
                    self.cluster, "the probe pod refused", "v1", "Pod", self.namespace,
                    fields=f"metadata.name={probe.name}", until=_scheduled_or_refused, deadline_s=PROBE_WAIT,
                )  # fmt: skip
            except Late as late:
                text = f"the scheduler said nothing of {probe.name}: {late}"
                raise Unjudged(text, reason=Reason.TIMEOUT, blame=Blame.PLATFORM) from None
        observed = {"asked for": nodes, "landed on": landed, "the scheduler said": said}
        saw("probe-pod", len(nodes), observed, "refused everywhere, for a taint")
        if not landed:
            self._refused_for_taints(nodes, said, declared)
        return Findings([f"{landed} took a pod without the declared tolerations"] if landed else [])

    def _refused_for_taints(self, nodes: Sequence[str], said: str, declared: Sequence[str]) -> None:
        """Raises Unjudged unless the scheduler's words account for each of the nodes, and each carries a declared taint."""
        keeping = {taint(text) for text in declared if not text.endswith(":PreferNoSchedule")}
        carrying = {node["metadata"]["name"] for node in self.cluster.list("v1", "Node") if taints(node) & keeping}
        bare = [f"{node} carries no taint of scheduling.tolerates" for node in nodes if node not in carrying]
        if bare or tainted(said) < len(nodes):
            text = (
                f"a pod without the tolerations was kept from {', '.join(nodes)}, but not for a declared taint on each: "
                f"{'; '.join([said, *bare])}; let all be ready, uncordoned and with room, and run again"
            )
            raise Unjudged(text, reason=Reason.NO_DATA, blame=Blame.PLATFORM)

    def _workload_index(self) -> int:
        serves = self.scenario.candidate.serves[0]
        kinds = [(obj["kind"], obj["metadata"]["name"]) for obj in self.located.objects]  # type: ignore[index]
        return kinds.index((serves.kind, serves.name))

    def places_leaking(self, secret: InjectedSecret) -> Findings:
        """Declared places that hold the value, in any form that the redactor knows.

        Raises Unjudged for a place that could not be read, or that held nothing to read: no text is no evidence.
        """
        value = secret_value(self.cluster, self.namespace, secret.name, secret.key)
        known = Redactor({secret.id: value})
        wrong = Findings()
        for place in secret.never_in:
            texts = self._texts(place)
            if not texts:
                raise Unjudged(f"{place}: nothing of the candidate's was there to be read", reason=Reason.EMPTY)
            read = [text for _, text in texts if text is not None]
            none = "".join(f", no page at {where}" for where, text in texts if text is None)
            saw("place", 1, {place: f"{len(read)} texts read, {sum(map(len, read))} characters{none}"})
            leaking = [where for where, text in texts if known.names_in(text or "")]
            wrong += [f"{place}: {where} holds the value of {secret.id}" for where in leaking]
        return wrong

    def _texts(self, place: str) -> Sequence[tuple[str, str | None]]:
        """Where -> text, None where a server has no such page."""
        if place == "manifests":
            secrets = [obj for obj in self.located.objects if obj["kind"] != "Secret"]
            return [(f"{obj['kind']}/{obj['metadata']['name']}", json.dumps(obj)) for obj in secrets]  # type: ignore[index]
        if place == "events":
            return [(f"event {item['metadata']['name']}", json.dumps(item)) for item in self._events()]
        if place == "logs":
            return list(self._logs())
        return list(self._metrics())

    def _logs(self) -> Iterator[tuple[str, str]]:
        for pod in self.pods.now():
            for who, text in read_logs(self.cluster, pod, limit=LONGEST).items():
                if len(text.encode()) >= LONGEST:
                    said = (
                        f"logs: {who} has written {LONGEST >> 20} MiB and more, what follows was not searched; let it log less"
                    )
                    raise Unjudged(f"{said}, or take logs out of never_in", reason=Reason.NO_DATA, blame=Blame.CANDIDATE)
                yield f"log of {who}", text

    def _events(self) -> list[Object]:
        return self.cluster.list("v1", "Event", self.namespace)

    def _metrics(self) -> Iterator[tuple[str, str | None]]:
        """Each port of the containers that serve, under /metrics and the runtime's own path."""
        for serves, found in self.pods.populations().items():
            paths = dict.fromkeys(("/metrics", contract_of(serves.runtime).metrics_path or "/metrics"))
            for pod in found.pods:
                container = next(one for one in pod["spec"]["containers"] if one["name"] == (serves.container or one["name"]))
                ports = [str(one["containerPort"]) for one in container.get("ports") or () if one.get("protocol") != "UDP"]
                for port in ports or ["80"]:
                    for path in paths:
                        yield f"{name(pod)}:{port}{path}", self._page(pod, path, port)

    def _page(self, pod: Object, path: str, port: str) -> str | None:
        """Through the API server's pod proxy, which hands on what the server answers; its own refusals are Status objects."""
        try:
            return page(self.cluster, pod, path, port)
        except ApiError as error:
            own = error.body.get("kind") != "Status"
            if error.status in NO_PAGE if own else NO_HTTP in error.message:
                return None
            text = (
                f"metrics: {error.message}; a page or the server's own 404 is expected: allow `get pods/proxy` (see `hotfire "
                "rbac`), declare only containerPorts that speak HTTP, or take metrics out of never_in"
            )
            raise Unjudged(text, reason=Reason.NO_DATA, blame=Blame.UNKNOWN) from None


def _scheduled_or_refused(objects: dict[str, Object]) -> tuple[str, str] | None:
    """The node's name, or an empty one with the scheduler's words once it has said no; None while it has said nothing."""
    for pod in objects.values():
        if pod["spec"].get("nodeName"):
            return str(pod["spec"]["nodeName"]), ""
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("reason") == "Unschedulable":
            return "", " ".join(str(scheduled.get("message", "")).split())
    return None
