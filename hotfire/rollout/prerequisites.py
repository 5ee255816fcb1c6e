"""What the cluster must hold already: nodes that are what the scenario says of them, and the objects under `prerequisites/`."""

from collections.abc import Iterator

from hotfire.kube.client import ApiError, Cluster, Object, Ref
from hotfire.rollout.may_differ import differences
from hotfire.scenario.model import Located
from hotfire.words import SIMULATED_NODES


def unmet(cluster: Cluster, located: Located) -> list[str]:
    """`file:line:column: what` for each thing that is not as it is declared; nothing is written."""
    sources = located.sources[len(located.objects) :]
    return [
        *_accelerators(cluster, located),
        *(f"{source}: {Ref.of(obj)} {line}" for obj, source in zip(located.prerequisites, sources, strict=True)
          for line in _unlike(cluster, obj)),
    ]  # fmt: skip


def _accelerators(cluster: Cluster, located: Located) -> Iterator[str]:
    """A certificate that says `real` must have been earned on real ones."""
    if located.scenario.stand.accelerators != "real":
        return
    if nodes := [node["metadata"]["name"] for node in cluster.list("v1", "Node", labels="=".join(SIMULATED_NODES))]:
        seen = f"node {', '.join(nodes)} simulates its accelerators (label {SIMULATED_NODES[0]})"
        yield f"{located.where('stand', 'accelerators')}: {seen}: `accelerators: simulated` or `none` is expected, not real"


def _unlike(cluster: Cluster, obj: Object) -> list[str]:
    """The live object must hold what the manifest says, and may hold more. Of a Secret only the keys: no value is printed."""
    try:
        live = cluster.find(Ref.of(obj))
    except ApiError as error:
        return [f"cannot be compared: {error.message}"]
    if live is None:
        return ["is not there: a prerequisite is made before a run, never by it"]
    wanted = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "stringData")}
    wanted["metadata"] = {key: obj["metadata"][key] for key in ("labels", "annotations") if key in obj["metadata"]}
    if obj["kind"] == "Secret":
        wanted["data"] = dict.fromkeys([*(obj.get("data") or {}), *(obj.get("stringData") or {})], "a value")
        live["data"] = dict.fromkeys(live.get("data") or {}, "a value")
    return differences(wanted, live, subset=True)
