"""Latency over time, and its distribution against the objective, as inline SVG.

Over time: one mark per request, the limit, the moments in which something was done. The distribution: the share of requests
answered within each latency (ECDF); failed ones and those still open are never answered: their curve ends below 100 %.

Made for black and white: a request within the limit is a dot, one over it a ring, a failed one a cross on the upper edge,
one that was still open when the load was ended a stroke upwards from its age.
Of many requests each column of the plot shows its median and its slowest, so that no slow one can hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import floor, log10
from typing import TYPE_CHECKING

from hotfire.load.samples import Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Scale = Callable[[float], float]
WIDTH, NARROW, HEIGHT = 540, 180, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 14, 18
DOTS = 600  # requests drawn one by one
STAIRS = 200  # points of a distribution
STEPS = (1, 2, 2.5, 5, 10)


def latency_plot(
    samples: Samples,
    metric: str,
    limit_s: float | None,
    marks: Sequence[tuple[str, float]] = (),
    *,
    requests: int | None = None,
    height: int = HEIGHT,
) -> str:
    """An <svg>, safe to be put into a page. metric: ttft, itl, gap or e2e; limit_s: seconds, None draws no line;
    marks: (name, seconds from the start); requests: as many as were judged, None for all."""
    import numpy as np

    kept = _shown(samples, metric, requests)
    latency, still = kept.latency(metric), kept.censored
    finite = latency[np.isfinite(latency)]
    end = max([float(np.nanmax(kept.end)) if len(kept) else 0.0, *(t for _, t in marks), 1.0])
    top = _nice(max([float(np.quantile(finite, 0.995)) * 1.1 if len(finite) else 0.0, (limit_s or 0.0) * 1.25, 1e-3]))
    across, up = (WIDTH - LEFT - RIGHT) / end, (height - TOP - BOTTOM) / top

    over = min(len(marks), 3) * 9

    def x(t: float) -> float:
        return LEFT + t * across

    def y(seconds: float) -> float:
        return height - BOTTOM - min(seconds, top) * up

    step = 60 * _nice(end / 360) if end > 600 else _nice(end / 6)
    below = [(x(step * n), _time(step * n)) for n in range(int(end / step) + 1)]
    beside = [(y(top * share), _time(top * share)) for share in (0.0, 0.5, 1.0)]
    parts = [_axes(below, beside, WIDTH, height)]
    if limit_s is not None:
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(limit_s):.1f}" y2="{y(limit_s):.1f}"/>')
        parts.append(
            f'<text class="limit" x="{WIDTH - RIGHT}" y="{y(limit_s) - 3:.1f}" text-anchor="end">limit {_time(limit_s)}</text>'
        )
    parts += [_mark(number, name, x(t), height) for number, (name, t) in enumerate(sorted(marks, key=lambda mark: mark[1]))]
    good = latency <= (limit_s if limit_s is not None else np.inf)
    shown = _thin(kept.due, latency) if len(kept) > DOTS else np.arange(len(kept))
    for index in shown:
        parts.append(_dot(x(float(kept.due[index])), float(latency[index]), bool(good[index]), bool(still[index]), y))
    return (
        f'<svg viewBox="0 {-over} {WIDTH} {height + over}" role="img" aria-label="{escape(metric)} over time" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def ecdf_plot(
    samples: Samples,
    metric: str,
    limit_s: float | None,
    share: float | None,
    *,
    requests: int | None = None,
    height: int = HEIGHT,
) -> str:
    """An <svg>, safe to be put into a page: the empirical distribution of the latencies.

    limit_s (seconds) and share (0..1): the objective, which holds where the curve passes above the corner of the two.
    """
    import numpy as np

    latency = np.sort(_shown(samples, metric, requests).answered(metric))
    finite = latency[np.isfinite(latency)]
    top = _nice(max([float(np.quantile(finite, 0.995)) * 1.1 if len(finite) else 0.0, (limit_s or 0.0) * 1.25, 1e-3]))
    across, up = (NARROW - LEFT - RIGHT) / top, height - TOP - BOTTOM

    def x(seconds: float) -> float:
        return LEFT + min(seconds, top) * across

    def y(at: float) -> float:
        return height - BOTTOM - at * up

    below = [(x(top * at) - 8 * (at == 1), _time(top * at)) for at in (0.0, 0.5, 1.0)]
    parts = [_axes(below, [(y(at), f"{at:.0%}") for at in (0.0, 0.5, 1.0)], NARROW, height)]
    if limit_s is not None and share is not None:
        corner = f'x1="{x(limit_s):.1f}" x2="{{}}" y1="{y(share):.1f}" y2="{{}}"/>'
        parts += [
            f'<line class="limit" {corner.format(f"{x(limit_s):.1f}", y(0))}',
            f'<line class="limit" {corner.format(LEFT, f"{y(share):.1f}")}',
        ]
        parts.append(
            f'<text class="limit" x="{x(limit_s) - 3:.1f}" y="{y(share) + 9:.1f}" text-anchor="end">{share:.3g}</text>'
        )
    ranks = np.unique(np.linspace(0, len(finite) - 1, min(len(finite), STAIRS)).astype(int))
    stairs = "".join(f"H{x(float(finite[rank])):.1f}V{y((rank + 1) / len(latency)):.1f}" for rank in ranks)
    end = f"H{NARROW - RIGHT}" if len(finite) else ""
    parts.append(f'<path class="ecdf" d="M{LEFT} {y(0):.1f}{stairs}{end}"/>')
    return (
        f'<svg viewBox="0 0 {NARROW} {height}" role="img" aria-label="distribution of {escape(metric)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _shown(samples: Samples, metric: str, requests: int | None) -> Samples:
    """Those that the gate on this metric speaks of: up to its last look, and no answer without a gap where gaps are judged."""
    kept = samples.counted(requests)
    return kept.where((kept.n > 1) | kept.is_error()) if metric in ("itl", "gap") else kept


def _thin(due: Floats, latency: Floats) -> NDArray[np.int64]:
    """Of each column: the median and the slowest request, and every failed one's column at least once."""
    import numpy as np

    columns = np.minimum((due - due.min()) / max(float(np.ptp(due)), 1e-9) * DOTS / 2, DOTS / 2 - 1).astype(int)
    chosen: list[int] = []
    order = np.lexsort((latency, columns))
    for group in np.split(order, np.flatnonzero(np.diff(columns[order])) + 1):
        chosen += {int(group[len(group) // 2]), int(group[-1])}
    return np.array(sorted(chosen))


def _dot(x: float, seconds: float, good: bool, still: bool, y: Scale) -> str:
    if still:
        return f'<path class="open" d="M{x:.1f} {y(seconds):.1f}v-5"/>'
    if seconds == float("inf"):
        return f'<path class="failed" d="M{x - 2.5:.1f} {TOP - 2.5}l5 5m0 -5l-5 5"/>'
    return f'<circle class="{"good" if good else "late"}" cx="{x:.1f}" cy="{y(seconds):.1f}" r="{1.4 if good else 2.1}"/>'


def _mark(number: int, name: str, x: float, height: int) -> str:
    side, offset = ("end", -3) if x > WIDTH * 0.75 else ("start", 3)
    label = escape(name if len(name) <= 34 else f"{name[:33]}…")
    level = TOP - 12 - (number % 3) * 9
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{level - 5}" y2="{height - BOTTOM}"/>'
        f'<text class="mark" x="{x + offset:.1f}" y="{level}" text-anchor="{side}">{label}</text>'
    )


def _axes(below: Sequence[tuple[float, str]], beside: Sequence[tuple[float, str]], width: int, height: int) -> str:
    """The frame with its labels, each (place, text); a line across at every label beside it but the lowest."""
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{height - BOTTOM}H{width - RIGHT}"/>']
    parts += [f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{text}</text>' for y, text in beside]
    parts += [f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>' for y, _ in beside[1:]]
    parts += [f'<text x="{x:.1f}" y="{height - 7}" text-anchor="middle">{text}</text>' for x, text in below]
    return "".join(parts)


def _nice(value: float) -> float:
    """The next round number that is not below."""
    scale = 10.0 ** floor(log10(value))
    return next(step * scale for step in STEPS if step * scale >= value - 1e-12)


def _time(seconds: float) -> str:
    if seconds == 0:
        return "0"
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    return f"{seconds:g} s" if seconds < 300 else f"{seconds / 60:g} min"
