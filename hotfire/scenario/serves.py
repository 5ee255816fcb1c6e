"""An API that the candidate serves, and who leads users to it."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from hotfire.scenario.base import Model, Name

OTHER = r"[A-Z][A-Za-z0-9]*\.v[0-9][a-z0-9]*\.[a-z0-9][-a-z0-9.]*"  # as kubectl names a kind exactly
WorkloadRef = Annotated[str, Field(pattern=rf"^(deployment|statefulset|{OTHER})/[a-z0-9][-a-z0-9.]*$")]
Labels = Annotated[str, Field(pattern=r"^[^=,\s]+=[^=,\s]*(,[^=,\s]+=[^=,\s]*)*$")]
KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet"}  # of apps/v1, whose controllers hotfire knows


def key_of(workload: str) -> str:
    """By which journals know it: `DaemonSet.v1.apps/llama` -> `daemonset/llama`."""
    kind, _, name = workload.partition("/")
    return f"{kind.partition('.')[0].lower()}/{name}"


class Gateway(Model):
    """What leads users to an API and counts their requests."""

    kind: Literal["haproxy", "ingress-nginx", "traefik", "envoy"] = Field(description="whose metrics they are")
    backend: str = Field(description="as its metrics call the Service: label proxy, NAMESPACE/SERVICE, service, cluster name")
    namespace: Name = Field(description="where its pods are")
    pods: Labels = Field(description="their labels, a=b,c=d")
    metrics: Annotated[str, Field(pattern=r"^\d{1,5}/\S*$", description="port and path of their metrics, 9113/metrics")]


class Serves(Model):
    """One API that the candidate serves: which workload, behind which Service, by which engine."""

    workload: WorkloadRef = Field(
        description="one of the manifests: deployment/NAME, statefulset/NAME, or another kind as KIND.VERSION.GROUP/NAME"
    )
    pods: Labels | None = Field(None, description="another kind: labels of all its pods, a=b,c=d")
    ready: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="another kind: how many they are when all is Ready"
    )
    service: str = Field(description="the Service in front of it, one of the manifests")
    runtime: Literal["llamacpp", "vllm", "ollama", "tgi", "trtllm", "tiny"] = Field(
        description="the engine whose contract is held against it; tiny is a twin and is named so"
    )
    model: str = Field(description="the model's name as the engine must report it")
    api: Literal["chat", "completions", "embeddings"] = Field("chat", description="what its users call")
    container: str | None = Field(None, description="the serving container; the pod's only one by default")
    port: StrictInt | str | None = Field(None, description="the Service port; its only one by default")
    counted_by: Gateway | None = Field(
        None, description="promote: by whom users' requests are counted; when absent by its pods"
    )

    @property
    def kind(self) -> str:
        kind = self.workload.split("/")[0]
        return KINDS.get(kind, kind.partition(".")[0])

    @property
    def api_version(self) -> str:
        version, _, group = self.workload.split("/")[0].partition(".")[2].partition(".")
        return f"{group}/{version}" if group else "apps/v1"

    @property
    def name(self) -> str:
        return self.workload.split("/")[1]

    @property
    def key(self) -> str:
        """`deployment/llama`, `daemonset/llama`."""
        return key_of(self.workload)

    @property
    def labels(self) -> dict[str, str]:
        """Of the pods of another kind."""
        return dict(pair.split("=", 1) for pair in self.pods.split(",")) if self.pods else {}

    @model_validator(mode="after")
    def _other_kinds_say_more(self) -> "Serves":
        other = self.workload.split("/")[0] not in KINDS
        if (self.api_version, self.kind) in {("apps/v1", kind) for kind in KINDS.values()} and other:
            raise ValueError(f"{self.kind} of apps/v1 is written {self.key}")
        if other and (self.pods is None or self.ready is None):
            raise ValueError(f"{self.kind} is a kind whose pods only you know: pods and ready are expected")
        if not other and (self.pods is not None or self.ready is not None):
            raise ValueError(f"pods and ready are given only for kinds other than {' and '.join(KINDS.values())}")
        return self
