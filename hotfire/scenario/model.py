"""The scenario as types. One YAML file says what to certify, where, against which expectations.

Unknown keys are refused: a misspelt gate that silently does not exist is the oldest vacuous pass (facts: F19).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hotfire.scenario.units import Arrivals, Duration, Limit, Share
from hotfire.words import Gate, Mode

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")]
WorkloadRef = Annotated[str, Field(pattern=r"^(deployment|statefulset)/[a-z0-9][-a-z0-9.]*$")]


class Model(BaseModel):
    """Frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Serves(Model):
    """One API that the candidate serves: which workload, behind which Service, by which engine."""

    workload: WorkloadRef
    service: str
    runtime: Literal["llamacpp", "vllm", "ollama", "tgi", "trtllm", "tiny"]
    model: str = Field(description="the model's name as the engine must report it")
    api: Literal["chat", "completions", "embeddings"] = "chat"
    container: str | None = Field(None, description="the serving container; the pod's only one by default")
    port: int | str | None = Field(None, description="the Service port; its only one by default")

    @property
    def kind(self) -> str:
        return {"deployment": "Deployment", "statefulset": "StatefulSet"}[self.workload.split("/")[0]]

    @property
    def name(self) -> str:
        return self.workload.split("/")[1]


class Candidate(Model):
    """What would be rolled out."""

    manifests: str = Field("manifests/", description="a folder of YAML, relative to the scenario file")
    serves: tuple[Serves, ...] = Field(min_length=1)


class Stand(Model):
    """Where: a kubeconfig context and a namespace, or the embedded stand."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: Name
    create: bool = Field(False, description="the run creates the namespace and deletes it by UID")
    secrets_from: str | None = Field(None, description="the namespace from which Secrets named in `secrets` are copied")
    accelerators: Literal["real", "simulated", "none"] = "real"

    @model_validator(mode="after")
    def _created_needs_create(self) -> "Stand":
        if self.secrets_from and not self.create:
            raise ValueError("secrets_from needs create: true")
        return self


class SecretKey(Model):
    """A key of a Secret in the run's namespace, written `name/key`."""

    secret: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]


class Reach(Model):
    """How requests get to the candidate. nodeport is an extra Service of the run's own."""

    via: Literal["url", "nodeport"] = "nodeport"
    url: str | None = None
    tls: bool = False
    auth: SecretKey | None = None
    max_age: Duration = Field("10s", validate_default=True, description="a connection is replaced after this long")

    @model_validator(mode="after")
    def _url_goes_with_url(self) -> "Reach":
        if (self.via == "url") != (self.url is not None):
            raise ValueError("url is given exactly when via is url")
        return self


class Scheduling(Model):
    """Where every pod must land, and with which devices."""

    devices: dict[str, int] = Field(default_factory=dict)
    nodes: dict[str, str] = Field(default_factory=dict)
    tolerates: tuple[str, ...] = Field((), description="key=value:Effect, as kubectl taint writes it")
    within: Duration = Field("2m", validate_default=True)


class Startup(Model):
    """From applied to ready."""

    ready_within: Duration = Field("6m", validate_default=True)
    restarts: int = Field(0, ge=0)


class InjectedSecret(Model):
    """A Secret key the server must have and nobody else may see."""

    name: str
    key: str
    as_: Annotated[str, Field(alias="as", pattern=r"^(env [A-Za-z_][A-Za-z0-9_]*|file /.+)$")]
    never_in: tuple[Literal["logs", "events", "metrics", "manifests"], ...] = ("logs", "events", "metrics", "manifests")


class PullSecret(Model):
    """An image pull secret: the private registry must refuse without it."""

    pull: str


class Behaviour(Model):
    """What it must answer."""

    golden: str | None = Field(None, description="a JSONL file of {prompt, expect, max_tokens}, beside the scenario")
    timeout: Duration = Field("30s", validate_default=True)


class Load(Model):
    """The plan of requests."""

    arrivals: Arrivals
    requests: int | None = Field(None, ge=1, description="requests to the first look; from the gates when absent")
    for_: Annotated[float | None, Field(alias="for")] = None
    warm_up: int = Field(3, ge=0, description="requests sent and not counted")
    prompts: str | None = None
    max_tokens: int = Field(16, ge=1)
    timeout: Duration = Field("60s", validate_default=True)
    slots: int | None = Field(None, ge=1, description="cap of requests in flight; 1.2 x rate x timeout when absent")
    seed: int = 42

    @model_validator(mode="before")
    @classmethod
    def _duration(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("for"), str):
            from hotfire.scenario.units import parse_duration

            return {**data, "for": parse_duration(data["for"])}
        if isinstance(data, dict) and isinstance(data.get("for"), int):
            raise ValueError("for: a bare number, a duration such as 5m is expected")
        return data


class Slo(Model):
    """One objective on the load: exactly one statistic."""

    metric: Literal["ttft", "itl", "e2e", "errors"]
    p50: Limit | None = None
    p80: Limit | None = None
    p90: Limit | None = None
    p95: Limit | None = None
    p99: Limit | None = None
    ratio: Limit | None = None
    confidence: Share | Literal["none"] = Field("95%", validate_default=True)
    gate: Gate = Gate.REQUIRED

    @model_validator(mode="after")
    def _one_statistic(self) -> "Slo":
        given = [name for name in ("p50", "p80", "p90", "p95", "p99", "ratio") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{len(given)} statistics, exactly one of p50 p80 p90 p95 p99 ratio is expected")
        if (given[0] == "ratio") != (self.metric == "errors"):
            raise ValueError(f"{self.metric} with {given[0]}: errors takes ratio, every other metric a percentile")
        if self.limit.is_share != (self.metric == "errors"):
            raise ValueError(f"{self.limit.text!r}: errors is limited by a share, a latency by a duration")
        return self

    @property
    def statistic(self) -> str:
        return next(name for name in ("p50", "p80", "p90", "p95", "p99", "ratio") if getattr(self, name) is not None)

    @property
    def limit(self) -> Limit:
        value: Limit = getattr(self, self.statistic)
        return value

    @property
    def bad_share(self) -> float:
        """The share of bad requests that is still allowed: 0.05 for p95, the ratio itself for errors."""
        return self.limit.value if self.metric == "errors" else round(1 - int(self.statistic[1:]) / 100, 9)

    @property
    def id(self) -> str:
        return f"{self.metric}-{self.statistic}"


class Stall(Model):
    """The longest time with requests in flight and no byte from the target."""

    max: Duration = Field("5s", validate_default=True)


class Fault(Model):
    """One injected failure and what recovery must look like. Exactly one of kill, oom."""

    name: Name
    kill: Literal["one pod"] | None = None
    oom: Literal["one container"] | None = None
    serving_again_within: Duration
    errors: Limit = Field("< 1%", validate_default=True, description="among requests due after service is back")

    @model_validator(mode="after")
    def _one_family(self) -> "Fault":
        if (self.kill is None) == (self.oom is None):
            raise ValueError("exactly one of kill, oom is expected")
        if not self.errors.is_share:
            raise ValueError(f"errors: {self.errors.text!r}, a share such as '< 1%' is expected")
        return self

    @property
    def family(self) -> str:
        return "kill" if self.kill else "oom"


class Rollback(Model):
    """How fast the way back must be, and how long it is watched."""

    within: Duration = Field("3m", validate_default=True)
    soak: Duration = Field("10s", validate_default=True)


class Lock(Model):
    """The Lease of the run. Renewals are every third of it."""

    lease: Duration = Field("30s", validate_default=True)


class Scenario(Model):
    """A whole scenario file."""

    apiVersion: Literal["hotfire/v1"]
    kind: Literal["Scenario"]
    name: Name
    about: str
    mode: Mode = Mode.CERTIFY
    users: Literal["none", "live"] = Field("live", description="none lifts the limits of promote; said on the certificate")
    consent: tuple[Literal["kill", "oom", "load"], ...] = ()
    certified: str = Field("none", description="promote: the verdict.json of a GO for the same candidate digest, or none")
    certified_within: Duration = Field("7d", validate_default=True)
    keep: bool = Field(False, description="certify: leave what the run made, and say so")
    candidate: Candidate
    stand: Stand
    reach: Reach = Field(default_factory=Reach)
    scheduling: Scheduling | None = None
    startup: Startup = Field(default_factory=Startup)
    secrets: tuple[InjectedSecret | PullSecret, ...] = ()
    behaviour: Behaviour = Field(default_factory=Behaviour)
    load: Load | None = None
    slos: tuple[Slo, ...] = ()
    stall: Stall = Field(default_factory=Stall)
    faults: tuple[Fault, ...] = ()
    rollback: Rollback = Field(default_factory=Rollback)
    lock: Lock = Field(default_factory=Lock)

    @property
    def injected(self) -> tuple[InjectedSecret, ...]:
        return tuple(secret for secret in self.secrets if isinstance(secret, InjectedSecret))

    @property
    def pulls(self) -> tuple[str, ...]:
        return tuple(secret.pull for secret in self.secrets if isinstance(secret, PullSecret))

    def permits(self, what: str) -> bool:
        """Whether mode and consent allow this on the namespace of the run (DESIGN: modes)."""
        return self.mode is not Mode.PROMOTE or self.users == "none" or what in self.consent


class Located(Model):
    """A scenario, where it came from, and the objects it would roll out (as written, namespace filled in)."""

    scenario: Scenario
    path: Path
    objects: tuple[dict[str, object], ...]
    digest: str = Field(description="sha256 of the scenario file's bytes")

    @property
    def folder(self) -> Path:
        return self.path.parent
