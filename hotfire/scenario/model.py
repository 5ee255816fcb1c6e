"""The scenario as types. One YAML file says what to certify, where, against which expectations.

Unknown keys are refused: a misspelt gate that silently does not exist is the oldest vacuous pass (facts: F19).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictBool, StrictInt, Tag, field_validator, model_validator

from hotfire.scenario.base import Image, Model, Name
from hotfire.scenario.marks import Loc, Mark, at, mark_of
from hotfire.scenario.serves import Serves
from hotfire.scenario.units import Arrivals, Cap, Confidence, Duration, Floor, Limit, Share, Spread, WarmUp
from hotfire.words import Gate, Mode


class Candidate(Model):
    """What would be rolled out."""

    manifests: str = Field("manifests/", description="a folder of YAML, relative to the scenario file")
    serves: tuple[Serves, ...] = Field(min_length=1, description="every API it serves; they roll out together")


class Stand(Model):
    """Where: a kubeconfig context and a namespace, or the embedded stand."""

    kubeconfig: str | None = Field(None, description="a kubeconfig file; KUBECONFIG or ~/.kube/config by default")
    context: str | None = Field(None, description="a context in it; its current one by default")
    namespace: Name = Field(description="where the candidate goes")
    create: StrictBool = Field(False, description="the run creates the namespace and deletes it by UID")
    secrets_from: str | None = Field(None, description="the namespace from which Secrets named in `secrets` are copied")
    home: Name | None = Field(None, description="create: where Lease and journal lie; secrets_from or default when absent")
    accelerators: Literal["real", "simulated", "none"] = Field("real", description="printed on every certificate")
    image: Image | None = Field(
        None, description="hotfire's own image by digest, for the watchdog; without it the way back is not armed"
    )
    load_image: Image | None = Field(None, description="hotfire-load by digest, for load: {from: cluster}")

    @model_validator(mode="after")
    def _created_needs_create(self) -> "Stand":
        if self.secrets_from and not self.create:
            raise ValueError("secrets_from needs create: true")
        if self.home and not self.create:
            raise ValueError("home needs create: true: else the namespace itself holds Lease and journal")
        return self


class SecretKey(Model):
    """A key of a Secret in the run's namespace, written `name/key`."""

    secret: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", description="name/key; sent as a bearer token")]


class Reach(Model):
    """How requests get to the candidate. nodeport is an extra Service of the run's own; port-forward goes through the API
    server, which would be measured with it."""

    via: Literal["url", "ingress", "in-cluster", "nodeport"] = Field(
        "nodeport",
        description="nodeport: an extra Service of the run's own; ingress: as the Ingress in front of the Service says; "
        "in-cluster: by the Service's name, for a run in a pod; url: as written. Not port-forward",
    )
    url: str | None = Field(None, description="via url: where the candidate's API is, without a path")
    host: str | None = Field(None, description="via ingress: which host, where several lead to the Service")
    tls: StrictBool = Field(False, description="whether the endpoint speaks TLS")
    ca: str | None = Field(None, description="a PEM file beside the scenario: certificates to trust instead of the system's")
    auth: SecretKey | None = Field(None, description="the key that requests carry")
    max_age: Duration = Field("10s", validate_default=True, description="a connection is replaced after this long")
    served_by: str = Field("x-served-by", description="a response header that names the pod that answered")

    @field_validator("via", mode="before")
    @classmethod
    def _no_port_forward(cls, via: object) -> object:
        if via == "port-forward":
            raise ValueError("port-forward is refused for load, url, ingress, in-cluster or nodeport is expected")
        return via

    @model_validator(mode="after")
    def _goes_with_via(self) -> "Reach":
        if (self.via == "url") != (self.url is not None):
            raise ValueError("url is given exactly when via is url")
        if self.host is not None and self.via != "ingress":
            raise ValueError("host is given only when via is ingress")
        if self.ca is not None and not self.tls:
            raise ValueError("ca is given only with tls: true")
        return self


class Scheduling(Model):
    """Where every pod must land, and with which devices."""

    devices: dict[str, StrictInt] = Field(default_factory=dict, description="resource -> devices granted to each pod")
    nodes: dict[str, str] = Field(default_factory=dict, description="labels every serving pod's node must carry")
    tolerates: tuple[str, ...] = Field((), description="key=value:Effect, as kubectl taint writes it")
    within: Duration = Field("2m", validate_default=True, description="every pod is on a node by then")


class Startup(Model):
    """From applied to ready."""

    ready_within: Duration = Field("6m", validate_default=True, description="every pod is ready by then, from applied")
    restarts: StrictInt = Field(0, ge=0, description="container restarts that are allowed on the way")


class InjectedSecret(Model):
    """A Secret key the server must have and nobody else may see."""

    name: str = Field(description="the Secret")
    key: str = Field(description="its key")
    as_: Annotated[str, Field(alias="as", pattern=r"^(env [A-Za-z_][A-Za-z0-9_]*|file /.+)$")] = Field(
        description="how the server gets it: `env NAME` or `file /path`"
    )
    never_in: tuple[Literal["logs", "events", "metrics", "manifests"], ...] = Field(
        ("logs", "events", "metrics", "manifests"), description="places searched for the value, plain and encoded"
    )

    @property
    def id(self) -> str:
        return f"{self.name}/{self.key}"


class PullSecret(Model):
    """An image pull secret: the private registry must refuse without it."""

    pull: str = Field(description="the imagePullSecret")


def _secret_kind(data: Any) -> str:
    pull = "pull" in data if isinstance(data, dict) else isinstance(data, PullSecret)
    return "PullSecret" if pull else "InjectedSecret"


Secret = Annotated[
    Annotated[InjectedSecret, Tag("InjectedSecret")] | Annotated[PullSecret, Tag("PullSecret")], Discriminator(_secret_kind)
]


class Behaviour(Model):
    """What it must answer."""

    golden: str | None = Field(None, description="a JSONL file of {prompt, expect, max_tokens}, beside the scenario")
    timeout: Duration = Field("30s", validate_default=True, description="for each single request of suite 60")


class Prefix(Model):
    """A beginning that prompts share, so that a prefix cache can hit."""

    words: StrictInt = Field(ge=1, le=100_000, description="words that the prompts of a group have in common")
    groups: StrictInt = Field(1, ge=1, description="how many such beginnings there are; each request draws one")


class Load(Model):
    """The plan of requests."""

    arrivals: Arrivals = Field(
        description="spaced PERIOD (one at a time); open loop: poisson|constant RATE/s, gamma RATE/s shape K, ramp RATE/s to "
        "RATE/s over T, steps RATE/s RATE/s each T, bursts N every T, replay FILE; closed N, for capacity alone"
    )
    to: str | None = Field(None, description="the Service it goes to; needed where candidate.serves has several")
    requests: StrictInt | None = Field(
        None, ge=1, le=10_000_000, description="requests to the first look; from the gates when absent"
    )
    for_: Duration | None = Field(None, alias="for", description="how long the first look lasts, instead of requests")
    warm_up: WarmUp = Field(
        None,
        description="sent and not counted, beside a ramp and lower steps: requests or a duration; when absent 3, for an open "
        "loop a tenth of the first look and 100 at least",
    )
    prompts: str | None = Field(None, description="a JSONL file of {prompt, max_tokens?}, beside the scenario")
    prompt_words: Spread | None = Field(None, description="instead of prompts: made-up texts, so many words long")
    shared_prefix: Prefix | None = Field(None, description="what the prompts begin with in common")
    unique: StrictBool = Field(False, description="each prompt begins with a text of its own: no prefix cache can hit")
    max_tokens: StrictInt = Field(16, ge=1, description="tokens asked for where the prompt's line does not say")
    answer_tokens: Spread | None = Field(None, description="instead of max_tokens: drawn for each request")
    timeout: Duration = Field("60s", validate_default=True, description="a request unanswered for this long has failed")
    live_cap: Cap = Field(
        "10%",
        validate_default=True,
        description="promote with users: at most this share of the requests that the baseline serves, or a rate such as 2/s",
    )
    slots: StrictInt | None = Field(
        None, ge=1, description="cap of requests in flight; 1.2 x what may be due within a timeout if absent"
    )
    from_: Literal["here", "cluster"] = Field(
        "here", alias="from", description="cluster: by a Job of stand.load_image beside the candidate"
    )
    per_pod: StrictBool = Field(
        False, description="from cluster: its Ready pods are asked in turn, in equal shares, past the Service"
    )
    workers: StrictInt = Field(1, ge=1, le=64, description="from cluster: worker pods that share an open load")
    cpu: Annotated[str, Field(pattern=r"^[1-9]\d*m?$")] = Field(
        "1", description="from cluster: of each pod that carries, as a Kubernetes quantity; requested, and no more than that"
    )
    processes: StrictInt = Field(1, ge=1, le=64, description="client processes on this machine that share an open load")
    seed: StrictInt = Field(42, description="of the arrival plan and the order of prompts; the same seed is the same plan")


STATISTICS = ("p50", "p80", "p90", "p95", "p99", "ratio", "share")


def bad_share(metric: str, statistic: str, limit: float) -> float:
    """The share of bad requests that an objective still allows: 0.05 for p95 or goodput > 95 %, the ratio itself for errors."""
    if metric == "errors":
        return limit
    return round(1 - (limit if metric == "goodput" else int(statistic[1:]) / 100), 9)


class Slo(Model):
    """One objective on the load: exactly one statistic."""

    metric: Literal["ttft", "itl", "gap", "e2e", "errors", "goodput"] = Field(
        description="first token, 99th-percentile and largest gap between a request's tokens, whole answer; the share of "
        "failed requests; goodput: that of requests within several limits at once"
    )
    within: dict[Literal["ttft", "itl", "gap", "e2e"], Limit] = Field(
        default_factory=dict, description="goodput: the limits that a request must all meet"
    )
    p50: Limit | None = Field(None, description="half of all requests are faster; failed ones count as infinitely slow")
    p80: Limit | None = Field(None, description="80 of 100 are")
    p90: Limit | None = Field(None, description="90 of 100 are")
    p95: Limit | None = Field(None, description="95 of 100 are")
    p99: Limit | None = Field(None, description="99 of 100 are")
    ratio: Limit | None = Field(None, description="errors: the share of requests that may fail")
    share: Floor | None = Field(None, description="goodput: the share of requests that must meet all of `within`")
    confidence: Confidence = Field(
        "95%", validate_default=True, description="one-sided; none is a point estimate and proves nothing"
    )
    gate: Gate = Field(Gate.REQUIRED, description="whether it decides, or is only printed")

    @model_validator(mode="after")
    def _one_statistic(self) -> "Slo":
        given = [name for name in STATISTICS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{len(given)} statistics, exactly one of {' '.join(STATISTICS)} is expected")
        wanted = {"errors": "ratio", "goodput": "share"}.get(self.metric, "")
        if given[0] != wanted and (wanted or given[0] in ("ratio", "share")):
            raise ValueError(
                f"{self.metric} with {given[0]}: errors takes ratio, goodput share, every other metric a percentile"
            )
        for limit, is_share in ((self.limit, bool(wanted)), *((limit, False) for limit in self.within.values())):
            if limit.is_share != is_share:
                raise ValueError(f"{limit.text!r}: errors and goodput are limited by a share, a latency by a duration")
        if bool(self.within) != (self.metric == "goodput"):
            raise ValueError(
                f"{self.metric} with {len(self.within)} limits in within: goodput takes them, and nothing else does"
            )
        return self

    @property
    def statistic(self) -> str:
        return next(name for name in STATISTICS if getattr(self, name) is not None)

    @property
    def limit(self) -> Limit:
        value: Limit = getattr(self, self.statistic)
        return value

    @property
    def bad_share(self) -> float:
        """The share of bad requests that is still allowed."""
        return bad_share(self.metric, self.statistic, self.limit.value)

    @property
    def latencies(self) -> dict[str, Limit]:
        """Metric -> the limit that every good request is within; none for errors."""
        alone: dict[str, Limit] = {} if self.limit.is_share else {self.metric: self.limit}
        return alone | {str(metric): limit for metric, limit in self.within.items()}

    @property
    def id(self) -> str:
        return f"{self.metric}-{self.statistic}"


class Compare(Model):
    """Earlier runs, whose latencies the candidate's are held against: a regression that no limit knows of."""

    runs: tuple[str, ...] = Field(
        min_length=3, description="folders of runs that were GO, of one candidate, with this load on this kind of stand"
    )
    margin: Share = Field(description="how much slower than they each percentile of the slos may be, such as 10%")


class Stall(Model):
    """The longest time with requests in flight and no byte from the target, from the first request after the warm-up."""

    max: Duration = Field("5s", validate_default=True, description="longer, once the warm-up is over, is a frozen server")


class Fault(Model):
    """One injected failure and what recovery must look like. Exactly one of kill, oom."""

    name: Name = Field(description="how the record calls it; no two faults share one")
    kill: Literal["one pod"] | None = Field(None, description="a serving pod is killed without grace")
    oom: Literal["one container"] | None = Field(None, description="a serving container is driven over its memory limit")
    at: str | None = Field(None, description="the Service whose pod is hit, and asked meanwhile; that of the load when absent")
    serving_again_within: Duration = Field(description="to the first correct answer on a fresh connection")
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

    within: Duration = Field("3m", validate_default=True, description="the baseline serves again by then")
    soak: Duration = Field("10s", validate_default=True, description="and goes on doing so for this long")
    rehearse: StrictBool = Field(
        False, description="go it once before the load, A, B, A, B; promote where users are served: with consent to rehearse"
    )
    drill: StrictBool = Field(
        False, description="promote: go it once after the faults; every certify and nightly ends so, B, absent, B"
    )
    settle_by: Duration | None = Field(
        None, description="armed: not settled after this long, the watchdog restores; twice all bounds, 10m at least, if absent"
    )


class Deploys(Model):
    """Who deploys the candidate. A pipeline does between `hotfire arm` and `hotfire verify`, and hotfire never does."""

    by: Literal["hotfire", "pipeline"] = Field("hotfire", description="pipeline: kubectl, Helm, Argo CD or Flux")
    deploy_by: Duration = Field(
        "30m", validate_default=True, description="pipeline: nothing deployed this long after `arm`, the run is closed"
    )
    owner_in: Name = Field(
        "argocd",
        description="pipeline: where the Argo CD Application lies that deploys it, or Flux's object; Flux's labels say it too",
    )


class Lock(Model):
    """The Lease of the run. Renewals are every third of it."""

    lease: Duration = Field("30s", validate_default=True, description="unrenewed for this long, the run counts as dead")


class Scenario(Model):
    """A whole scenario file."""

    apiVersion: Literal["hotfire/v1"] = Field(description="this format")
    kind: Literal["Scenario"] = Field(description="this format")
    name: Name = Field(description="names the run's reports")
    about: str = Field(description="one sentence for the certificate: what replaces what")
    mode: Mode = Field(Mode.CERTIFY, description="promote works where users are served, certify and nightly elsewhere")
    users: Literal["none", "live"] = Field("live", description="none lifts the limits of promote; said on the certificate")
    consent: tuple[Literal["kill", "oom", "load", "rehearse", "drill", "suspend-sync"], ...] = Field(
        (),
        description="promote: what may be done to live users; suspend-sync: to a pipeline that applies by itself, before "
        "anything is put back; without it the way back is the owner's",
    )
    certified: str = Field("none", description="promote: the verdict.json of a GO for the same candidate digest, or none")
    certified_within: Duration = Field("7d", validate_default=True, description="how old that verdict may be")
    keep: StrictBool = Field(False, description="certify: leave what the run made, and say so")
    candidate: Candidate = Field(description="what would be rolled out")
    stand: Stand = Field(description="where")
    reach: Reach = Field(default_factory=Reach, description="how requests get there")
    scheduling: Scheduling | None = Field(None, description="where every pod must land, with which devices")
    startup: Startup = Field(default_factory=Startup, description="from applied to ready")
    secrets: tuple[Secret, ...] = Field((), description="what it must have and nobody else may see")
    behaviour: Behaviour = Field(default_factory=Behaviour, description="what it must answer")
    load: Load | None = Field(None, description="the plan of requests that the objectives are judged on")
    slos: tuple[Slo, ...] = Field((), description="objectives on the load")
    compare: Compare | None = Field(None, description="earlier runs that latencies are compared with")
    stall: Stall = Field(default_factory=Stall, description="the longest silence of the target under load")
    faults: tuple[Fault, ...] = Field((), description="what is broken on purpose, in this order")
    checks: tuple[str, ...] = Field(
        (), description="checks of your own: files or globs beside the scenario, such as checks/test_*.py; by their names they "
        "run among the suites (test_75_… after load), and always before settle"
    )  # fmt: skip
    rollout: Deploys = Field(default_factory=Deploys, description="who deploys the candidate")
    rollback: Rollback = Field(default_factory=Rollback, description="how fast the way back must be")
    lock: Lock = Field(default_factory=Lock, description="the run's sign of life in the cluster")

    @property
    def injected(self) -> tuple[InjectedSecret, ...]:
        return tuple(secret for secret in self.secrets if isinstance(secret, InjectedSecret))

    def serving(self, service: str | None) -> Serves:
        """The API behind a Service; without a name the one that the load goes to, else the first."""
        wanted = service or (self.load.to if self.load else None)
        return next((serves for serves in self.candidate.serves if serves.service == wanted), self.candidate.serves[0])

    @property
    def loaded(self) -> tuple[Serves, ...]:
        """The APIs that get the load, and what goes on under the faults that are allowed."""
        names: list[str | None] = [fault.at for fault in self.faults if self.permits(fault.family)]
        names = [None, *names] if self.permits("load") else names
        return tuple(dict.fromkeys(map(self.serving, names)))

    @property
    def pulls(self) -> tuple[str, ...]:
        return tuple(secret.pull for secret in self.secrets if isinstance(secret, PullSecret))

    @property
    def compared(self) -> tuple[Slo, ...]:
        """The objectives whose percentiles are held against earlier runs."""
        return tuple(slo for slo in self.slos if self.compare and not slo.limit.is_share)

    @property
    def windows(self) -> int:
        """Equal windows of the load, each of which must be within every objective: against drift. promote has one."""
        return 1 if self.mode is Mode.PROMOTE else 3

    @property
    def guarded(self) -> tuple[Serves, ...]:
        """The APIs whose users' requests are watched: all, where there are users."""
        return self.candidate.serves if self.mode is Mode.PROMOTE and self.users == "live" else ()

    @property
    def capped(self) -> Load | None:
        """The load, or what goes on under faults, that users are served beside."""
        sent = any(self.permits(what) for what in ("load", *(fault.family for fault in self.faults)))
        return self.load if self.guarded and sent else None

    @property
    def capped_by_users(self) -> bool:
        """Whether it is held to a share of what they ask, which the cluster alone knows."""
        return self.capped is not None and self.capped.live_cap.is_share

    @property
    def by_pipeline(self) -> bool:
        """Whether another deploys, between the commands of the run."""
        return self.rollout.by == "pipeline"

    @property
    def drilled(self) -> bool:
        """Whether the run ends with the drill."""
        return self.mode is not Mode.PROMOTE or self.rollback.drill

    def permits(self, what: str) -> bool:
        """Whether mode and consent allow this on the namespace of the run (DESIGN: modes)."""
        return self.mode is not Mode.PROMOTE or self.users == "none" or what in self.consent


class Located(Model):
    """A scenario, where it came from, and the objects it would roll out (as written, namespace filled in)."""

    scenario: Scenario
    path: Path
    objects: tuple[dict[str, object], ...]
    digest: str = Field(description="sha256 of the scenario file's bytes")
    prerequisites: tuple[dict[str, object], ...] = Field((), description="compared with the cluster, never written")
    checks: tuple[Path, ...] = Field((), description="the files of the scenario's own checks, in running order")
    sources: tuple[str, ...] = Field((), description="file:line:column of each of objects, then of prerequisites")
    marks: dict[Loc, Mark] = Field(default_factory=dict, repr=False, description="where each key of the file stands")

    @property
    def folder(self) -> Path:
        return self.path.parent

    def where(self, *loc: str | int) -> str:
        """`file:line:column` of a key such as ("slos", 0, "p95"); of the nearest one above where the file is silent."""
        return at(self.path, mark_of(self.marks, loc)[1].key)

    def says(self, *loc: str | int) -> bool:
        """Whether the file itself holds this key, as against a default."""
        return loc in self.marks
