"""One HTTP/1.1 answer, read as it comes: framing, events, and what went wrong. No sockets, no clock.

`Answer.feed(data, at)` takes what one read gave and the stamp of that read; an event belongs to the read that completed
it. Nothing is assumed about how bytes are cut into reads: split UTF-8, split CRLF and many events in one read are
ordinary. Times are whole microseconds from the start of the load.
"""

import json
import re
from array import array
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hotfire.load.dialects import Dialect, Meaning
from hotfire.runtimes.dialect import FINISHED, failure

LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the very end may be half of a CRLF
STRING = re.compile(rb'(?:[^"\\]|\\.)*')  # the inside of a JSON string
FIELDS = (b"", b"event", b"id", b"retry")  # of an event stream, beside its data; the first is a comment
MOST_HEAD, MOST_EVENT, MOST_NOTE = 65536, 8 << 20, 4096  # a note is cut for people once no key is left in it
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
QUOTE, NEWLINE = b'"\n'  # as numbers: ten times faster to look for than as bytes
SIZES = {b"%x" % size: size for size in range(4096)}  # of a chunk, as most servers write them


class BadAnswer(Exception):
    """The bytes are no answer of this API; the text says why."""


class Answer:
    """What came back for one request. `complete`: nothing more belongs to it. `reusable`: the connection may go on."""

    __slots__ = (
        "_aligned", "_begin", "_body", "_buffer", "_chunked", "_close", "_data", "_dialect", "_in_body", "_left",
        "_stray", "_suffix", "complete", "done_at", "ended", "error", "finish", "first_byte", "head_at", "headers",
        "last_read", "reusable", "stamps", "status", "usage",
    )  # fmt: skip

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._buffer = b""  # raw bytes that are not yet framed
        self._body = b""  # bytes of the body that are not yet an event
        self._stray = b""  # lines that are none of an event stream
        self._data: list[bytes] = []  # data lines of the event being read
        self._in_body = self._chunked = self._close = self._aligned = False
        self._begin = self._suffix = b""  # of the last token's chunk, around its text, without its size
        self._left = 0  # bytes of the chunk, or of the body, still to come; -1: until the connection ends
        self.status, self.headers = 0, dict[str, str]()
        self.complete = self.reusable = self.ended = False
        self.error: str | None = None
        self.finish = ""
        self.usage: int | None = None
        self.stamps = array("q")  # of every token
        self.first_byte = self.head_at = self.done_at = self.last_read = -1

    def feed(self, data: bytes, at: int) -> bool:
        """What one read gave; whether the answer's end is among what came so far. Raises BadAnswer."""
        if self._aligned:  # the usual read: one chunk, one event, a token as the last one was; by the loop of `_usual` alone
            # each would cost 0.8 us more (17 %)
            begin, suffix = self._begin, self._suffix
            cut = 2 if data.startswith(begin, 2) else 3 if data.startswith(begin, 3) else 0  # digits of the chunk's size
            if SIZES.get(data[:cut]) == len(data) - cut - 4 and data.endswith(suffix):
                text = data[cut + len(begin) : -len(suffix)]
                if text and QUOTE not in text and NEWLINE not in text:
                    self.stamps.append(at)
                    return False
            data = self._usual(data, at)
            if not data:
                return False
        if self.first_byte < 0:
            self.first_byte = at
        self.last_read = at
        self._buffer += data
        if self._in_body or self._read_head(at):
            self._read_body(at)
            rest = self._left or self._buffer or self._body or self._data or self.ended or self.complete
            self._aligned = self._chunked and not rest and bool(self._begin)
        return self.ended or self.complete

    def _usual(self, data: bytes, at: int) -> bytes:
        """What is left of a read without the chunks at its beginning that are a token as the last one was. A client that is
        behind gets several of a stream in one read: to parse them whole would keep it behind."""
        begin, suffix, done = self._begin, self._suffix, 0
        while True:
            cut = 2 if data.startswith(begin, done + 2) else 3 if data.startswith(begin, done + 3) else 0
            size = SIZES.get(data[done : done + cut], 0)
            end = done + cut + 4 + size
            text = data[done + cut + len(begin) : end - len(suffix)]
            usual = size and end <= len(data) and data.endswith(suffix, done, end) and text
            if not usual or QUOTE in text or NEWLINE in text:
                return data[done:]
            self.stamps.append(at)
            done = end

    @property
    def tokens(self) -> int:
        return len(self.stamps)

    def gaps(self) -> list[int]:
        """Between the tokens, one fewer than they are; 0 where two came in one read."""
        return [then - now if then > now else 0 for now, then in pairwise(self.stamps)]

    def closed(self) -> str:
        """The connection ended; the error class this makes, empty if the answer was whole."""
        if self.complete:
            return self.verdict()
        if self._in_body and not self._chunked and self._left < 0:  # framed by the end of the connection
            try:
                self._finish_body(self.last_read)
            except BadAnswer:  # half an event, or half a document
                return "reset_mid_stream"
            return self.verdict()
        if self.ended or self.error or (self._in_body and self.status != 200):
            return self.verdict()
        return "reset_mid_stream" if self.first_byte >= 0 else "reset_before_first"

    def verdict(self) -> str:
        """The error class of an answer that is whole; empty for a success."""
        if self.status == 429:
            return "http_429"
        if self.status == 404:  # every engine with a name for its model says so in words; a path that is not there does not
            return "unknown_model" if b"model" in self._body.lower() else "http_404"
        if self.status != 200:
            return "http_5xx" if self.status >= 500 else "http_4xx" if self.status >= 400 else "http_other"
        if self.error is not None:
            return "error_event"
        if not self.ended:
            return "no_done" if self.stamps else "empty"
        if not self.stamps:
            return "empty"
        return "" if self.finish in FINISHED else "bad_finish" if self.finish else "no_finish"

    def note(self) -> str:
        """What an error said, in at most MOST_NOTE characters."""
        if self.error is not None:
            return self.error[:MOST_NOTE]
        if self.status and self.status != 200:
            return f"HTTP {self.status} {self._body[:MOST_NOTE].decode('utf-8', 'replace')}"[:MOST_NOTE].strip()
        if self.finish and self.finish not in FINISHED:
            return f"finish reason {self.finish!r}"[:MOST_NOTE]
        return "" if self.stamps else self._stray[:MOST_NOTE].decode("utf-8", "replace").strip()

    # --- HTTP framing

    def _read_head(self, at: int) -> bool:
        while True:
            cut = self._buffer.find(b"\r\n\r\n")
            if cut < 0:
                if len(self._buffer) > MOST_HEAD or not b"HTTP/1.".startswith(self._buffer[:7]):
                    raise BadAnswer("no HTTP/1.1 answer")
                return False
            first, *lines = self._buffer[:cut].decode("latin-1").split("\r\n")
            found = re.match(r"HTTP/1\.([01]) (\d{3})(?: |$)", first)
            if not found:
                raise BadAnswer(f"status line {first[:MOST_NOTE]!r}")
            self._buffer = self._buffer[cut + 4 :]
            self.status = int(found[2])
            if self.status >= 200:  # 100 Continue and its like precede the answer
                break
        self.headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        said = self.headers.get("connection", "").lower()
        self._close = "close" in said or (found[1] == "0" and "keep-alive" not in said)
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.headers.get("content-encoding", "identity") != "identity":
            raise BadAnswer(f"content-encoding {self.headers['content-encoding']} was not asked for")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
            raise BadAnswer(f"content-length {length[:MOST_NOTE]!r}")
        empty = self.status in (204, 304)
        self._left = 0 if self._chunked or empty else int(length) if length is not None else -1
        self._close |= self._left < 0
        self._in_body, self.head_at = True, at
        if empty or (not self._chunked and self._left == 0):
            self._finish_body(at)
        return True

    def _read_body(self, at: int) -> None:
        while self._buffer and not self.complete:
            if not self._chunked:
                piece = self._buffer if self._left < 0 else self._buffer[: self._left]
                self._buffer = self._buffer[len(piece) :]
                self._feed_body(piece, at)
                if self._left > 0:
                    self._left -= len(piece)
                    if not self._left:
                        self._finish_body(at)
            elif self._left:
                piece = self._buffer[: self._left]
                self._buffer = self._buffer[len(piece) :]
                self._left -= len(piece)
                if self._left > 2:  # the CRLF after the chunk is counted in
                    self._feed_body(piece, at)
                elif len(piece) + self._left > 2:
                    self._feed_body(piece[: len(piece) + self._left - 2], at)
            elif not self._next_chunk(at):
                return

    def _next_chunk(self, at: int) -> bool:
        cut = self._buffer.find(b"\r\n")
        if cut < 0:
            if len(self._buffer) > 1024:
                raise BadAnswer("no chunk size")
            return False
        said = self._buffer[:cut].partition(b";")[0].strip()
        if not CHUNK_SIZE.fullmatch(said):  # a sign would be a number to `int`
            raise BadAnswer(f"chunk size {said!r}")
        if size := int(said, 16):
            self._buffer, self._left = self._buffer[cut + 2 :], size + 2
            return True
        end = cut if self._buffer[cut : cut + 4] == b"\r\n\r\n" else self._buffer.find(b"\r\n\r\n", cut)  # trailers
        if end < 0:
            return False
        self._buffer = self._buffer[end + 4 :]
        self._finish_body(at)
        return True

    def _finish_body(self, at: int) -> None:
        if self.status == 200:
            if self._dialect.framing == "json":
                self._event(self._body, at)
            elif self._body or self._data:  # a last event without its empty line
                self._feed_events(b"\n\n", at)
            if self._stray and self.error is None:
                self._document()
        self.complete = True
        self.reusable = not self._close and not self._buffer

    def _document(self) -> None:
        """An error said as a JSON document where a stream was asked for."""
        with suppress(ValueError, RecursionError):
            data = json.loads(self._stray)
            if isinstance(data, dict) and (failed := failure(data)) is not None:
                self.error = failed.error[:MOST_NOTE]

    # --- events

    def _feed_body(self, piece: bytes, at: int) -> None:
        if self.status != 200 or self._dialect.framing == "json":
            self._body += piece
            if len(self._body) > MOST_EVENT:
                raise BadAnswer("the answer is larger than 8 MiB")
        elif self._body or self._data or not self._plain(piece, at):
            self._feed_events(piece, at)

    def _plain(self, piece: bytes, at: int) -> bool:
        """The usual event, without parsing it: exactly one, whole, and certainly a token."""
        dialect = self._dialect
        if dialect.framing == "sse":
            if piece[:5] != b"data:" or piece[-2:] != b"\n\n" or piece.count(b"\n") != 2 or b"\r" in piece:
                return False
        elif piece[-1:] != b"\n" or piece.count(b"\n") != 1:
            return False
        if dialect.plain is None or dialect.not_plain is None:
            return False
        found = dialect.plain.search(piece)
        if found is None or dialect.not_plain.search(piece) is not None or self.ended:
            return False
        rest = STRING.match(piece, found.end())
        if rest is not None and piece[found.end() - 1 : found.end()] == b'"':
            self._begin, self._suffix = b"\r\n" + piece[: found.end()], piece[rest.end() :] + b"\r\n"
        self.stamps.append(at)
        return True

    def _feed_events(self, piece: bytes, at: int) -> None:
        body = self._body + piece
        if self._dialect.framing == "ndjson":
            *lines, self._body = body.split(b"\n")
            for line in lines:
                if line.strip():
                    self._event(line, at)
        else:
            *lines, self._body = LINE_END.split(body)
            for line in lines:
                self._sse_line(line, at)
        if len(self._body) > MOST_EVENT:
            raise BadAnswer("an event is larger than 8 MiB")

    def _sse_line(self, line: bytes, at: int) -> None:
        if not line.strip():  # also a line of blanks, which one engine sends
            if self._data:
                event, self._data = b"\n".join(self._data), []
                self._event(event, at)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"error":  # llama.cpp of old: `error: {...}`
            self.error = value.decode("utf-8", "replace")[:MOST_NOTE]
        elif name not in FIELDS and len(self._stray) < MOST_HEAD:
            self._stray += line + b"\n"

    def _event(self, event: bytes, at: int) -> None:
        text = event.strip()
        if not text or self.ended:
            return
        data: Any = "[DONE]" if text == b"[DONE]" else None
        try:
            data = data or json.loads(text)
            meaning: Meaning = self._dialect.means(data)
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise BadAnswer(f"event {text[:MOST_NOTE]!r}") from None
        if meaning.token:
            self.stamps.append(at)
        if meaning.usage is not None:
            self.usage = meaning.usage
        if meaning.error is not None and self.error is None:
            self.error = meaning.error
        self.finish = meaning.finish or self.finish
        if meaning.end and not self.ended:
            self.ended, self.done_at = True, at
