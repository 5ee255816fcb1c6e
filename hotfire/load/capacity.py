"""What one load process can carry, and what a plan asks of it. Both are shares of a CPU.

A calibration measures what a request and a token cost this process, and how much of a CPU it gets when it asks for all of
it (a quota, a neighbour). The same bound as the client check's holds: a plan that needs more than CPU_SHARE of what the
process gets would be INVALID afterwards, so it is refused before. TLS is not in it; the client check sees that.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hotfire.load.plan import Plan
from hotfire.load.selfcheck import CPU_SHARE
from hotfire.stand.embedded.plan import cache

if TYPE_CHECKING:
    from hotfire.scenario.model import Load

SPAN_US = 5_000_000  # the busiest so many microseconds of a plan are what it needs
RATE = 50  # tokens a second of the streams that a capacity is told in
WAITS = "not needed: requests wait for one another, no rate is asked of this client"


@dataclass(frozen=True)
class Capacity:
    """us_per_request, us_per_token: CPU microseconds; share: of a CPU that the process got when it asked for all of it."""

    us_per_request: float
    us_per_token: float
    share: float

    @property
    def carries(self) -> float:
        """Share of a CPU that a load may need."""
        return CPU_SHARE * self.share

    @property
    def streams(self) -> int:
        """Streams of RATE tokens a second."""
        return int(1e6 * self.carries / max(self.us_per_token, 1e-3) / RATE)

    def costs_us(self, tokens: float) -> float:
        """One request with so many tokens."""
        return self.us_per_request + tokens * self.us_per_token

    def needed(self, plan: Plan, slices: int = 1) -> float:
        """Share of a CPU that the busiest SPAN_US of a plan need, spread over so many processes."""
        spans, last = Counter[int](), 0
        for item in plan.items():
            spans[item.due_us // SPAN_US] += round(self.costs_us(item.max_tokens))
            last = item.due_us
        return max(spans.values(), default=0) / min(SPAN_US, max(last, 1_000_000)) / slices

    def asked(self, load: "Load") -> float:
        """The same before anything is drawn: of the declared peak rate."""
        tokens = load.answer_tokens.mean if load.answer_tokens else load.max_tokens
        seconds = SPAN_US / 1e6
        return load.arrivals.crowd(seconds) / seconds * self.costs_us(tokens) / 1e6

    def told(self, needed: float) -> dict[str, Any]:
        """As the record holds it, with cause and remedy where the plan asks for more."""
        over = needed > self.carries
        cause = f"the plan needs {needed:.0%} of a CPU, this client can carry {self.carries:.0%} ({self.streams:,} streams)"
        short = self.share < 0.7
        remedy = (
            f"something else uses its CPU, or a quota holds it (it got {self.share:.0%}): give it a free one, raise the quota"
            if short
            else "lower the rate, or spread the load over more client processes"
        )
        figures = {name: round(value, 3) for name, value in asdict(self).items()}
        return figures | {"needs": round(needed, 4), "carries": round(self.carries, 4), "streams": self.streams,
                          "cause": cause if over else "", "remedy": remedy if over else ""}  # fmt: skip


def remember(told: Mapping[str, Any]) -> None:
    """Keep what this machine's client carried last, for `known`; a cache that cannot be written is left alone."""
    kept = {name: told[name] for name in ("us_per_request", "us_per_token", "share")} | {"at": time.time()}
    with suppress(OSError):
        cache().mkdir(parents=True, exist_ok=True)
        (cache() / "client.json").write_text(json.dumps(kept))


def known(load: "Load") -> str:
    """A line on what a load asks of this machine's client, by its last calibration."""
    if not load.arrivals.open:
        return f"client: calibration {WAITS}"
    try:
        kept = json.loads((cache() / "client.json").read_text())
        capacity, at = Capacity(kept["us_per_request"], kept["us_per_token"], kept["share"]), float(kept["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return "client: not calibrated on this machine yet; each open load begins with it"
    needed = capacity.asked(load) / load.processes
    verdict = "within" if needed <= capacity.carries else "MORE than"
    each, day = " each" * (load.processes > 1), f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
    return (
        f"client: needs {needed:.1%} of a CPU{each} at its peak, {verdict} the {capacity.carries:.0%} that this machine's "
        f"client carried on {day} ({capacity.streams:,} streams of {RATE} tokens/s)"
    )
