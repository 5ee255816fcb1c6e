"""Tools made for the load of language models, beside ours: what was measured of each on another day, quoted."""

from typing import NamedTuple

QUOTED = "2026-11-23"


class Tool(NamedTuple):
    """One core, closed loop, 50 tokens a second a stream: what the tool reported less what the server logged."""

    name: str
    version: str
    ttft_error_ms: dict[int, tuple[float, float]]  # by streams: p50, p99
    p99_gap_ms: tuple[float, float]  # at 300 streams: the tool's, the server's
    note: str = ""


TOOLS = (
    Tool("inference-perf", "0.7.0", {20: (0.7, 0.6), 100: (0.3, 0.5), 300: (12.5, 92)}, (36, 20.1)),
    Tool("aiperf", "0.13.0", {20: (4.4, 8.6), 100: (46, 85), 300: (73, 503)}, (162, 20.2)),
    Tool("guidellm", "0.8.1", {20: (12.9, 28), 100: (31, 58), 300: (179, 250)}, (21.1, 20.4), "gap: a mean per request"),
)
