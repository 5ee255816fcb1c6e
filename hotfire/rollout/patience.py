"""How a way back waits: through what may pass, and not in silence."""

import time
from collections.abc import Callable
from typing import TypeVar

from hotfire.journal.lease import NotRenewed
from hotfire.kube.client import ApiError, Conflict, Forbidden, UnknownKind
from hotfire.kube.wait import pause

T = TypeVar("T")
Waits = Callable[[str], None]
RIGHTS_S = 5.0
LASTS_S = 10.0  # what is waited for longer is said


class Patience:
    """Says what is waited for, once that has lasted and again when it has become something else."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell, self.said, self.since = tell, "", time.monotonic()

    def __call__(self, why: str) -> None:
        if time.monotonic() - self.since > LASTS_S and why != self.said:
            self.said = why
            self.tell(f"waiting for {time.monotonic() - self.since:.0f} s: {why}")


class Passing:
    """Whether a failure may pass. An API server that was just started refuses everything until it has read its roles, and does
    not know the kinds that were added to it, so for RIGHTS_S a Forbidden and an UnknownKind may, too.

    One for each spell of trouble: what succeeded begins a new one.
    """

    def __init__(self) -> None:
        self.refused = 0.0

    def __call__(self, error: ApiError | NotRenewed) -> bool:
        if isinstance(error, Forbidden | UnknownKind):
            self.refused = self.refused or time.monotonic()
            return time.monotonic() - self.refused < RIGHTS_S
        return isinstance(error, NotRenewed | Conflict) or error.passing


def patiently(call: Callable[[], T], left: Callable[[], float], waits: Waits = lambda why: None) -> T:
    """Again, while what it raises may pass: an API server that is away, a Lease that could not be renewed meanwhile."""
    passing = Passing()
    while True:
        try:
            return call()
        except (ApiError, NotRenewed) as error:
            if not passing(error) or left() <= 0:
                raise
            waits(str(error))
        pause(0.3)
