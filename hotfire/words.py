"""The vocabulary as types. Every report, gate and test uses these words and no synonyms of them."""

from enum import StrEnum

IN_PROCESS = "in-process"  # the way back of a run without a watchdog
SIMULATED_NODES = ("hotfire.dev/accelerators", "simulated")  # label of nodes whose accelerators are none


class Outcome(StrEnum):
    """What one check came to."""

    PASS = "PASS"
    FAIL = "FAIL"
    INVALID = "INVALID"  # could not be judged; carries a Reason
    NOT_RUN = "NOT_RUN"  # blocked, not permitted, not asked or never seen; carries a Reason


class Gate(StrEnum):
    """Whether a check decides."""

    REQUIRED = "required"
    ADVISORY = "advisory"


class Blame(StrEnum):
    """Who a failure is attributed to; only the candidate's makes a NO_GO."""

    CANDIDATE = "candidate"
    PLATFORM = "platform"
    HARNESS = "harness"
    UNKNOWN = "unknown"


class Decision(StrEnum):
    """What to do with the candidate, taken before settling."""

    CONFIRM = "CONFIRM"
    ROLL_BACK = "ROLL_BACK"


class Verdict(StrEnum):
    """What the run came to, after settling."""

    GO = "GO"
    NO_GO = "NO_GO"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNSAFE = "UNSAFE"

    @property
    def exit_code(self) -> int:
        """The process exit code: only GO lets a pipeline go on. pytest keeps 1 to 6 for itself."""
        return {"GO": 0, "NO_GO": 20, "INCONCLUSIVE": 21, "UNSAFE": 22}[self.value]


class Mode(StrEnum):
    """What a run is for; it fixes where it may run and which ends are legal."""

    CERTIFY = "certify"
    NIGHTLY = "nightly"
    PROMOTE = "promote"


class Provider(StrEnum):
    """Who can make a cluster for one run; the name is that of the program it needs."""

    KIND = "kind"
    K3D = "k3d"
    MINIKUBE = "minikube"


class State(StrEnum):
    """The journal's state, the only authority over what the run may still do."""

    OPEN = "OPEN"
    ARMED = "ARMED"
    WAITING = "WAITING"  # pipeline mode, between two commands: the watchdog holds the Lease
    APPLYING = "APPLYING"
    TESTING = "TESTING"
    CONFIRMED = "CONFIRMED"
    RESTORING = "RESTORING"
    RESTORED = "RESTORED"

    @property
    def final(self) -> bool:
        """No further run on this workload is refused because of a final state."""
        return self in (State.CONFIRMED, State.RESTORED)


class Proof(StrEnum):
    """What one of the points of the restoration proof came to."""

    PROVEN = "PROVEN"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    UNPROVEN = "UNPROVEN"


class Grade(StrEnum):
    """How a pod is doing, as far as its own status tells."""

    HEALTHY = "HEALTHY"
    STARTING = "STARTING"
    DEGRADED = "DEGRADED"
    TERMINAL = "TERMINAL"  # no restart and no waiting can clear it


class Effect(StrEnum):
    """What the witness says of a fault. Only CONFIRMED may feed a recovery verdict (facts: no-op taxonomy)."""

    CONFIRMED = "EFFECT_CONFIRMED"
    NO_TARGET = "NO_TARGET"
    NO_EFFECT = "APPLIED_NO_EFFECT"
    NOT_APPLIED = "ACCEPTED_NOT_APPLIED"
    STALE = "EFFECT_STALE"
    OTHER_CAUSE = "EFFECT_BY_OTHER_CAUSE"
    WRONG_TARGET = "SELECTED_WRONG_TARGET"


class Reason(StrEnum):
    """Why an outcome is what it is. Codes are never reused."""

    # INVALID
    NO_EVIDENCE = "no-evidence"  # green without the evidence it declares
    EMPTY = "empty-population"  # a noun had nothing to speak about
    INSUFFICIENT = "insufficient"  # too few samples; says how many
    UNDECIDED = "undecided"  # enough samples, the bound still straddles the limit
    CLIENT = "client-unsound"  # the load client was the bottleneck
    NO_EFFECT = "no-effect"  # the fault was not confirmed by its witness
    CONTROL = "control-failed"  # the negative control saw the fault too
    SETUP = "setup-error"
    FOREIGN = "foreign-exception"  # an exception that is neither Breach nor Unjudged
    XPASS = "xpass"
    TIMEOUT = "timeout"
    NO_DATA = "no-data"  # NaN, absent series, nothing answered
    LIVENESS = "target-not-alive"  # a count of errors from a target that was not serving
    UNANCHORED = "unanchored"  # a record that is not closed or whose chain does not hold
    HARNESS = "harness-fault"
    INTERRUPTED = "interrupted"
    # NOT_RUN
    BLOCKED = "blocked"  # a stage before it failed
    SILENT = "silent"  # planned, never reported
    SKIPPED = "skipped"
    NOT_ASKED = "not-asked"  # the scenario does not declare it
    NO_CONSENT = "no-consent"  # promote without consent
    NOT_COUNTED = "not-counted"  # the runtime counts nothing that an objective could be held against
    # FAIL
    BREACH = "breach"  # observed is not expected
    XFAIL = "xfail"
    SATURATED = "saturated"
    STALLED = "stalled"
