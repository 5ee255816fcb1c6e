"""Moments in a load, and what became of the requests around them: what fault and rollback checks ask."""

from dataclasses import dataclass

from hotfire.errors import Unjudged
from hotfire.load.samples import Samples
from hotfire.words import Reason


@dataclass(frozen=True)
class Mark:
    """A named moment, in seconds from the start of the load."""

    name: str
    t: float


class Window:
    """The requests due in [since, until]. Pure: a live load gives a new one at each question."""

    def __init__(self, samples: Samples, since: float, until: float) -> None:
        self.since, self.until = since, until
        self.samples = samples.where((samples.due >= since) & (samples.due <= until))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def failed(self) -> int:
        """How many failed; what was cut off at the end is neither good nor bad."""
        return int((self.samples.is_error() & ~self.samples.censored).sum())

    def error_share(self) -> float:
        """Failed of all that ended by themselves. Raises Unjudged EMPTY when none did."""
        ended = len(self) - int(self.samples.censored.sum())
        if not ended:
            raise Unjudged(f"no request was due after {self.since:.1f} s and ended", reason=Reason.EMPTY)
        return self.failed / ended

    def first_success(self, *, fresh: bool = True) -> float | None:
        """Seconds from the window's begin to the first token of a request in it that succeeded; None when none did."""
        good = ~self.samples.is_error()
        if fresh:
            good &= self.samples.reused == 0
        return float((self.samples.ft[good] - self.since).min()) if good.any() else None

    def errors(self) -> dict[str, int]:
        """Error class -> how many."""
        return self.samples.errors()
