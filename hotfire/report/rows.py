"""The production checklist: nineteen rows, each with the checks that answer it (DESIGN 8). One table, for every report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hotfire.gates.decision import SEVERITY, CheckOutcome
from hotfire.words import Outcome

ROWS: Mapping[str, Sequence[str]] = {
    "GPU scheduling and node affinity": ("scheduling.devices", "scheduling.nodes", "scheduling.within"),
    "taints and tolerations": ("scheduling.tolerations", "scheduling.isolation"),
    "runtime health checks": ("startup.liveness-truth",),
    "model readiness checks": ("startup.readiness-truth", "startup.within"),
    "private image pull": ("deploy.pull-secret",),
    "secrets outside images": ("secrets.injected", "secrets.absent", "secrets.rotation"),
    "persistent storage and cache": ("storage.cache",),
    "request timeout": ("edge.timeout", "behaviour.disconnect"),
    "rate limiting": ("edge.rate-limit",),
    "TLS termination": ("edge.tls",),
    "ingress routing": ("edge.routing",),
    "centralized logging": ("telemetry.logs",),
    "metrics and alerts": ("telemetry.metrics", "telemetry.alerts"),
    "GPU memory visibility": ("telemetry.gpu-memory",),
    "autoscaling thresholds": ("scaling.up", "scaling.down"),
    "rollback procedure": ("rollback.feasible", "rollback.rehearsed", "settle.restored", "settle.within"),
    "disaster recovery procedure": ("recovery.from-nothing",),
    "cost monitoring": ("cost.per-million-tokens",),
    "documented failure response": ("runbook.covers",),
}

NOT_THERE = "not in this version"


@dataclass(frozen=True)
class Row:
    """One row of the checklist. outcome: the worst of what was asked, NOT_RUN when nothing was; missing: id -> why it was not
    asked (a reason code, or that this version has no such check): a PASS with some missing is a PASS in part."""

    name: str
    outcome: Outcome
    asked: tuple[CheckOutcome, ...]
    missing: Mapping[str, str]

    @property
    def words(self) -> str:
        """Why the outcome is what it is, in a few words."""
        if not self.asked:
            return ", ".join(dict.fromkeys(self.missing.values()))
        worst = [one for one in self.asked if one.outcome is self.outcome and one.outcome is not Outcome.PASS]
        passed = sum(one.outcome is Outcome.PASS for one in self.asked)
        if self.outcome is Outcome.NOT_RUN:
            return ", ".join(dict.fromkeys(str(one.reason) for one in worst))
        return ", ".join(one.key for one in worst) or f"{passed} of {passed + len(self.missing)} checks"

    @property
    def in_full(self) -> str:
        """The same with every check's name."""
        asked = [f"{one.key} {one.outcome}" for one in self.asked]
        return ", ".join([*asked, *(f"{id} {why}" for id, why in self.missing.items())])

    @property
    def in_part(self) -> bool:
        return bool(self.asked and self.missing)


def rows(found: Mapping[str, CheckOutcome]) -> tuple[Row, ...]:
    """All nineteen, in the checklist's order. A check belongs to the row it names in the plan, too."""
    out = []
    for name, ids in ROWS.items():
        mine = [one for one in found.values() if one.planned.id in ids or one.planned.row == name]
        asked = tuple(one for one in mine if one.planned.asked)
        outcome = max((one.outcome for one in asked), key=SEVERITY.__getitem__, default=Outcome.NOT_RUN)
        missing = {one.planned.id: str(one.reason) for one in mine if not one.planned.asked}
        missing |= {id: NOT_THERE for id in ids if id not in {one.planned.id for one in mine}}
        out.append(Row(name, outcome, asked, missing))
    return tuple(out)
