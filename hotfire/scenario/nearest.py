"""Says what is allowed, the likeliest first: a misspelt key must name its correction."""

import difflib
from collections.abc import Sequence


def nearest(given: str, allowed: Sequence[str]) -> str:
    """`nearest allowed: slos` where something is near, else `allowed: …` with all of them."""
    close = difflib.get_close_matches(given, allowed, n=2, cutoff=0.6)
    return f"nearest allowed: {', '.join(close)}" if close else f"allowed: {', '.join(allowed)}"
