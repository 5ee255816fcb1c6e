"""The exception tree.

HotfireError
├── BadInput        the user's file, flag or cluster is not fit for a run: exit 4, one line each, nothing changed
├── Refused         a run may not start or go on now (lock held, open journal): exit 4, says who and what to do
│   └── Damaged     the journal of a run holds what is none: nobody knows the way back, UNSAFE where one was needed
├── Breach          observed is not expected: FAIL (also an AssertionError, so that pytest and Allure say "failed")
├── Unjudged        cannot be judged: INVALID, with a Reason
├── HarnessError    hotfire itself is broken: INVALID, blamed on the harness
│   └── LeaseLost   another run or an operator took the workload: stop writing at once
├── Halted          the run stops where it is, for what it has found meanwhile: the checks that are left are NOT_RUN
└── Interrupted     SIGINT or SIGTERM was seen; the baseline is restored, never exit 0
"""

from collections.abc import Sequence

from hotfire.words import Blame, Reason


class HotfireError(Exception):
    """Root of everything hotfire raises on purpose."""


class BadInput(HotfireError):
    """One or more lines `file:line:column: what, what is allowed`; shown without a traceback, exit 4."""

    def __init__(self, *lines: str) -> None:
        self.lines: Sequence[str] = lines
        super().__init__("\n".join(lines))


class Refused(HotfireError):
    """The run may not start now; the text says who holds what since when, and what to do."""


class Damaged(Refused):
    """A journal with an entry that is none; the text shows it."""


class Breach(HotfireError, AssertionError):
    """The candidate (or whoever `blame` names) did not do what was asked.

    message: one line, observed against expected; details: further lines, one object each.
    """

    def __init__(
        self,
        message: str,
        *,
        observed: object = None,
        expected: object = None,
        blame: Blame | None = None,
        reason: Reason = Reason.BREACH,
        details: Sequence[str] = (),
    ) -> None:
        self.message, self.observed, self.expected = message, observed, expected
        self.blame, self.reason, self.details = blame, reason, tuple(details)
        super().__init__("\n  ".join((message, *self.details)))


class Unjudged(HotfireError):
    """The question could not be answered; the check becomes INVALID with this reason."""

    def __init__(self, message: str, *, reason: Reason, blame: Blame = Blame.HARNESS, details: Sequence[str] = ()) -> None:
        self.message, self.reason, self.blame, self.details = message, reason, blame, tuple(details)
        super().__init__("\n  ".join((message, *self.details)))


class HarnessError(HotfireError):
    """hotfire could not do its own work."""


class LeaseLost(HarnessError):
    """The Lease or the journal is no longer this run's."""


class Halted(HotfireError):
    """What was found beside the checks leaves nothing to ask; the text says it."""


class Interrupted(HotfireError):
    """A signal asked the run to stop."""
