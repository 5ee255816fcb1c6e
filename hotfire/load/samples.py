"""The samples: one row per request, gzip JSON lines on disk with a SHA-256, and their reader.

The first line names the columns. Times are whole microseconds from the start of the load, null where it never came to
that. `err` empty means success. A line that is an object holds silences: [[begin_us, length_us], ...], the times with
requests in flight and no byte from the target. The file is flushed at least four times a second, so that it can be read
while the load runs; what a killed carrier leaves is readable up to there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotfire.errors import HarnessError, Unjudged
from hotfire.words import Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = (
    "i",  # index in the plan, from the first that counts: negative in the warm-up
    "warm",  # 1: sent and not counted
    "due", "took", "sent", "conn", "hdr", "fb", "ft", "lt", "end",  # due .. first byte, first and last token, end
    "n",  # token events seen
    "usage",  # tokens by the target's own count, null if it gave none
    "status", "err", "fin",  # HTTP status, error class, finish reason
    "by", "rid",  # who served it by a response header; the request id that was sent
    "reused",  # 1: on a connection that had carried a request before
    "coal",  # tokens that shared a read with another, whose gap is not known
    "gmax", "g99",  # largest and p99 gap between tokens, us
    "gaps",  # all gaps: base64 of varints, us
    "note",  # what went wrong, in words
)  # fmt: skip
TIMES = ("due", "took", "sent", "conn", "hdr", "fb", "ft", "lt", "end")
COUNTS = ("i", "warm", "n", "status", "reused", "coal")
TEXTS = ("err", "fin", "by")
CANCELLED, BACKLOG = "cancelled_at_end", "backlog"
FILE = "samples.jsonl.gz"
BLOCK = 4096  # rows turned into arrays at once


class Writer:
    """Appends rows; `close` gives the digest of the file's bytes. also: gets them as they are written."""

    def __init__(self, path: Path, also: Callable[[bytes], None] | None = None) -> None:
        self._file, self._also = path.open("wb"), also
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._hash = hashlib.sha256()
        self._pending: list[str] = [json.dumps(COLUMNS)]
        self.rows = 0

    def add(self, row: Sequence[Any]) -> None:
        self._pending.append(json.dumps(row, separators=(",", ":"), ensure_ascii=False))
        self.rows += 1

    def silences(self, found: Sequence[tuple[int, int]]) -> None:
        if found:
            self._pending.append(json.dumps({"silences": found}, separators=(",", ":")))

    def flush(self) -> None:
        if self._pending:
            body = "\n".join(self._pending) + "\n"
            self._pending.clear()
            self._put(self._gzip.compress(body.encode()) + self._gzip.flush(zlib.Z_SYNC_FLUSH))

    def close(self) -> str:
        self.flush()
        self._put(self._gzip.flush(zlib.Z_FINISH))
        self._file.close()
        return self._hash.hexdigest()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self._hash.update(data)
        if self._also is not None:
            self._also(data)


class Tail:
    """Reads a samples file that may still grow. `rows()` gives what came since the last call."""

    def __init__(self, path: Path) -> None:
        self.path, self._at, self._rest = path, 0, b""
        self._gzip = zlib.decompressobj(31)
        self.silences: list[tuple[int, int]] = []

    def rows(self) -> Iterator[list[Any]]:
        """Raises HarnessError when a whole line is not what a Writer writes."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            while piece := file.read(1 << 18):
                self._at += len(piece)
                *lines, self._rest = (self._rest + self._inflate(piece)).split(b"\n")
                if lines:
                    yield from self._parsed(lines)

    def _inflate(self, piece: bytes) -> bytes:
        try:
            return self._gzip.decompress(piece)
        except zlib.error as error:
            raise HarnessError(f"{self.path}: not a samples file: {error}") from None

    def _parsed(self, lines: list[bytes]) -> Iterator[list[Any]]:
        try:
            parsed = json.loads(b"[" + b",".join(lines) + b"]")
        except ValueError as error:
            raise HarnessError(f"{self.path}: not a samples file: {error}") from None
        for row in parsed:
            if isinstance(row, dict):
                self.silences += [(begin, length) for begin, length in row["silences"]]
            elif row[0] == "i":
                if tuple(row) != COLUMNS:
                    raise HarnessError(f"{self.path}: other columns than this version writes")
            else:
                yield row


class Samples:
    """Arrays, one entry per request, in the order of the plan. Times are seconds from the start, NaN for never.

    due, took, sent, conn, hdr, fb, ft, lt, end: (n,) float; i, warm, n, status, reused, coal: (n,) int; usage, gap_max,
    gap_p99: (n,) float, NaN for none (gaps in seconds); err, fin, by: (n,) int codes into `names[column]`.
    """

    def __init__(self, columns: dict[str, NDArray[Any]], names: dict[str, list[str]], silences: Sequence[tuple[float, float]]):
        self.columns, self.names, self.silences = columns, names, tuple(silences)

    def __len__(self) -> int:
        return len(self.columns["i"])

    def __getattr__(self, name: str) -> NDArray[Any]:
        try:
            return self.__dict__["columns"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    def where(self, keep: NDArray[np.bool_]) -> Samples:
        """Those requests alone; silences stay. Neighbours, as a window's are, are a view: a million are not copied."""
        import numpy as np

        at = np.flatnonzero(keep)
        run = len(at) > 0 and at[-1] - at[0] + 1 == len(at)
        kept = slice(at[0], at[-1] + 1) if run else at
        return Samples({name: column[kept] for name, column in self.columns.items()}, self.names, self.silences)

    def counted(self, first: int | None = None, since: int = 0) -> Samples:
        """Without warm-up; only the first so many of the plan, when given: the window of a look. since: from this one on."""
        keep = (self.warm == 0) & (self.i >= since)
        return self.where(keep if first is None else keep & (self.i < first))

    def missing(self, first: int) -> list[int]:
        """Which of the first so many counted requests of the plan have no sample. At a look that is reached: none."""
        import numpy as np

        return [int(i) for i in np.setdiff1d(np.arange(first), self.i)]

    def unbroken(self) -> int:
        """How many of the first counted requests of the plan have ended, up to the first that has not."""
        import numpy as np

        kept = self.counted()
        gaps = np.flatnonzero(kept.i != np.arange(len(kept)))
        return int(gaps[0]) if len(gaps) else len(kept)

    def is_error(self, *classes: str) -> NDArray[np.bool_]:
        """(n,) whether the request failed with one of these classes; with any, when none is named."""
        import numpy as np

        names = self.names["err"]
        wanted = [names.index(name) for name in classes if name in names] if classes else range(1, len(names))
        return np.isin(self.err, list(wanted))

    @property
    def censored(self) -> NDArray[np.bool_]:
        """(n,) still open when the load was ended: its latency is at least its age."""
        return self.is_error(CANCELLED)

    def latency(self, metric: str) -> NDArray[np.float64]:
        """(n,) seconds from the intended start: `ttft`, `e2e`; of the gaps between a request's tokens, 0 where it has none:
        `itl` their 99th percentile, `gap` the largest. inf for a failure; the age for what was still open at the end, which
        is a lower limit of the truth."""
        import numpy as np

        gaps = {"itl": "gap_p99", "gap": "gap_max"}.get(metric)
        if gaps:
            gap = self.columns[gaps]
            value = np.where(np.isnan(gap) & (self.n <= 1), 0.0, gap)
        elif metric in ("ttft", "e2e"):
            value = (self.ft if metric == "ttft" else self.end) - self.due
        else:
            raise HarnessError(f"no metric {metric!r} in the samples")
        failed = self.is_error() & ~self.censored
        if gaps:
            open_gap = self.end - np.where(np.isnan(self.lt), self.sent, self.lt)
            value = np.where(self.censored, np.fmax(value, open_gap), value)
        else:
            value = np.where(self.censored & np.isnan(value), self.end - self.due, value)
        return np.where(failed | np.isnan(value), np.inf, value)

    def answered(self, metric: str) -> NDArray[np.float64]:
        """(n,) the same, inf also for what was still open at the end: nobody knows that it would have been answered."""
        import numpy as np

        return np.where(self.censored, np.inf, self.latency(metric))

    def bad(self, metric: str, limit: float) -> NDArray[np.bool_]:
        """(n,) over the limit or failed; for `errors`, failed. What was open at the end is bad: it was never shown good,
        unless its first token had come in time and that was all that was asked."""
        if metric == "errors":
            return self.is_error()
        late: NDArray[np.bool_] = self.latency(metric) > limit
        return late | self.unproven(metric, limit)

    def unproven(self, metric: str, limit: float) -> NDArray[np.bool_]:
        """(n,) bad only because the load ended first: against PASS, never for FAIL."""
        import numpy as np

        if metric == "errors":
            return self.censored
        known = ~np.isnan(self.ft) if metric == "ttft" else np.zeros(len(self), bool)
        waiting: NDArray[np.bool_] = self.censored & ~known & ~(self.latency(metric) > limit)
        return waiting

    def longest_silence(self, since: float = 0.0, until: float = float("inf")) -> tuple[float, float]:
        """(seconds, when it began): the longest time with requests in flight and no byte. One that began before the window
        counts from its beginning, one that began after it not at all."""
        inside = [(begin + length - max(begin, since), max(begin, since)) for begin, length in self.silences if begin <= until]
        inside = [one for one in inside if one[0] > 0]
        return max(inside, default=(0.0, float("nan")))

    def errors(self) -> dict[str, int]:
        """Error class -> how many, without the successes."""
        import numpy as np

        counts = np.bincount(self.err, minlength=len(self.names["err"]))
        return {name: int(count) for name, count in zip(self.names["err"], counts, strict=True) if name and count}


class Collector:
    """Turns rows into arrays block by block, so that a million rows never exist as Python objects."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, NDArray[Any]]] = []
        self._rows: list[list[Any]] = []
        self._sorted = False  # whether the blocks are one, in the order of the plan
        self._codes: dict[str, dict[str, int]] = {name: {"": 0} for name in TEXTS}

    def extend(self, rows: Iterable[list[Any]]) -> None:
        for row in rows:
            self._rows.append(row)
            if len(self._rows) >= BLOCK:
                self._pack()

    def samples(self, silences: Sequence[tuple[int, int]] = ()) -> Samples:
        """What came so far, in the order of the plan."""
        import numpy as np

        self._pack()
        if not self._sorted:
            blocks = self._blocks or [_arrays([], self._codes)]
            order = np.argsort(np.concatenate([block["i"] for block in blocks]), kind="stable")
            # column by column, each taken from its block: there is never a second copy of all
            self._blocks = [{name: np.concatenate([one.pop(name) for one in blocks])[order] for name in list(blocks[0])}]
            self._sorted = True
        names = {name: list(codes) for name, codes in self._codes.items()}
        return Samples(dict(self._blocks[0]), names, [(begin / 1e6, length / 1e6) for begin, length in silences])

    def _pack(self) -> None:
        if self._rows:
            self._blocks.append(_arrays(self._rows, self._codes))
            self._rows, self._sorted = [], False


def _arrays(rows: list[list[Any]], codes: dict[str, dict[str, int]]) -> dict[str, NDArray[Any]]:
    import numpy as np

    by_name = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(COLUMNS, ())
    out: dict[str, NDArray[Any]] = {name: np.array(by_name[name], float) / 1e6 for name in TIMES}
    out |= {name: np.array(by_name[name], np.int32) for name in COUNTS}
    out["usage"] = np.array(by_name["usage"], float)
    out["gap_max"], out["gap_p99"] = (np.array(by_name[name], float) / 1e6 for name in ("gmax", "g99"))
    for name in TEXTS:
        known = codes[name]
        out[name] = np.array([known.setdefault(text, len(known)) for text in by_name[name]], np.int32)
    return out


def read(path: Path, digest: str | None = None) -> Samples:
    """A whole file. Raises Unjudged UNANCHORED when it is not the one with this digest."""
    if digest is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise Unjudged(f"{path.name} was changed: sha256 {found[:12]}, {digest[:12]} is recorded", reason=Reason.UNANCHORED)
    tail, collector = Tail(path), Collector()
    collector.extend(tail.rows())
    return collector.samples(tail.silences)


def numbered(name: str, k: int, of: int) -> str:
    """The file of one carrier of several: `samples-2.jsonl.gz`; the name itself where there is one alone."""
    stem, dot, rest = name.partition(".")
    return f"{stem}-{k + 1}{dot}{rest}" if of > 1 else name


def merge(parts: Mapping[Path, int], into: Path) -> tuple[str, list[tuple[int, int]]]:
    """Several carriers' files as one set: its digest and its silences, from the start of the first. parts: file -> when its
    carrier started, microseconds after the first; its rows keep that start, for what was due counts from it."""
    writer, flights, quiets = Writer(into), [], []
    took, heard, end = (COLUMNS.index(name) for name in ("took", "fb", "end"))
    for part, later in parts.items():
        tail, mine = Tail(part), []
        for row in tail.rows():
            writer.add(row)
            if row[heard] is not None:  # one that never got a byte breaks nobody's silence
                mine.append((row[took] + later, row[end] + later))
            if writer.rows % BLOCK == 0:
                writer.flush()
        flights.append(mine)
        quiets.append([(begin + later, length) for begin, length in tail.silences])
    silences = common_silences(flights, quiets)
    writer.silences(silences)
    return writer.close(), silences


def common_silences(
    flights: Sequence[Sequence[tuple[int, int]]], quiets: Sequence[Sequence[tuple[int, int]]]
) -> list[tuple[int, int]]:
    """When some carrier had requests in flight and none got a byte: (begin, length). flights: per carrier (took, end) of each
    request that got one; quiets: per carrier its own silences (begin, length)."""
    steps = [(at, k, 0, up) for k, mine in enumerate(flights) for begin, end in mine for at, up in ((begin, 1), (end, -1))]
    steps += [
        (at, k, 1, up) for k, mine in enumerate(quiets) for begin, size in mine for at, up in ((begin, 1), (begin + size, -1))
    ]
    steps.sort()
    state = [[0, 0] for _ in flights]  # in flight, silent
    found: list[tuple[int, int]] = []
    since, busy, silent = -1, 0, 0  # carriers that get bytes; that get none
    for number, (at, k, what, up) in enumerate(steps):
        was = state[k][:]
        state[k][what] += up
        now = state[k]
        busy += (now[0] > 0 and not now[1]) - (was[0] > 0 and not was[1])
        silent += bool(now[1]) - bool(was[1])
        if number + 1 < len(steps) and steps[number + 1][0] == at:
            continue
        if silent and not busy:
            since = at if since < 0 else since
        elif since >= 0:
            found.append((since, at - since))
            since = -1
    return found


def pack_gaps(gaps: Sequence[int]) -> str:
    """Microseconds as base64 of little-endian base-128 varints: two bytes for anything under 16 ms."""
    out = bytearray()
    add = out.append
    for gap in gaps:
        while gap > 127:
            add(gap & 127 | 128)
            gap >>= 7
        add(gap if gap > 0 else 0)
    return base64.b64encode(out).decode()


def unpack_gaps(text: str) -> list[int]:
    """The inverse of pack_gaps."""
    out, value, shift = [], 0, 0
    for byte in base64.b64decode(text):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            out.append(value)
            value = shift = 0
    return out
