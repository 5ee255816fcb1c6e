"""Asks a serving engine as its users do, one request at a time, and reads the answer strictly. Never used for load.

Every request is on a connection of its own unless asked otherwise: a kept connection goes on reaching a pod that the Service
has long taken out, and a recovery measured on it would be a recovery nobody else sees.
"""

import math
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from json import loads
from typing import Any, Literal

import httpx

from hotfire.errors import Breach
from hotfire.runtimes import contract_of
from hotfire.runtimes.contract import Contract
from hotfire.runtimes.dialect import Dialect, Piece, failure
from hotfire.words import Blame

CONNECT = 5.0  # seconds; a cluster's own network answers or refuses at once
BODY = 64 * 2**20  # bytes; an answer that is longer is no answer


@dataclass(frozen=True)
class Health:
    """loading: refused, or said so itself; serving: 200; failed: anything else, with what was seen."""

    state: Literal["loading", "serving", "failed"]
    detail: str


@dataclass(frozen=True)
class Answer:
    """One completion. error is empty exactly when the answer was complete; tokens is what the server counted.

    chunks: events that carried text; first_token_s and total_s: seconds from just before the connection was opened.
    """

    text: str = ""
    finish_reason: str | None = None
    tokens: int | None = None
    ended_properly: bool = False
    chunks: int = 0
    status: int | None = None
    error: str = ""
    stream: bool = False
    max_tokens: int = 0
    first_token_s: float | None = None
    total_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Complete, and with text."""
        return not self.error and bool(self.text)

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)

    def breaches(self) -> list[str]:
        """What a user of the API could not rely on; empty when the contract was kept."""
        if self.error:
            return [self.error]
        wrong = [] if self.text.strip() else ["the answer has no text"]
        if self.tokens is None:
            wrong.append("the server counted no tokens (usage.completion_tokens)")
        elif not 0 < self.tokens <= self.max_tokens:
            wrong.append(f"the server counted {self.tokens} tokens, 1 to {self.max_tokens} were asked for")
        if self.stream and self.chunks < 2 <= (self.tokens or 0) // 2:
            wrong.append(f"{self.tokens} tokens came in one piece: not a stream")
        return wrong


@dataclass
class _Reading:
    """A stream as it arrives: folds pieces into an Answer."""

    began: float
    text: list[str] = field(default_factory=list)
    reason: str | None = None
    tokens: int | None = None
    ended: bool = False
    chunks: int = 0
    error: str = ""
    first: float | None = None

    def take(self, piece: Piece) -> None:
        if self.ended and not self.error and (piece.text or piece.error or piece.end):
            self.error = f"more after the end marker: {piece.error or piece.text or 'a second one'}"
        if piece.text:
            self.first = time.monotonic() - self.began if self.first is None else self.first
            self.chunks += 1
            self.text.append(piece.text)
        self.reason, self.tokens = piece.finish_reason or self.reason, piece.tokens if piece.tokens is not None else self.tokens
        self.error = self.error or piece.error
        self.ended = self.ended or piece.end

    def answer(self, dialect: Dialect, **more: Any) -> Answer:
        error = self.error
        if not error and self.reason is None:
            error = f"the stream ended after {self.chunks} chunks without a finish reason"
        if not error and not self.ended:
            error = f"the stream ended without its end marker ({dialect.end_marker})"
        return Answer(
            "".join(self.text), self.reason, self.tokens, self.ended and not error, self.chunks, error=error,
            first_token_s=self.first, total_s=time.monotonic() - self.began, **more,
        )  # fmt: skip


class RuntimeClient:
    """One API of one engine.

    url: scheme, host and port, without a path. model: as the scenario names it. timeout: seconds for a whole request.
    token: sent as a bearer token. verify: False or an SSLContext for a private CA. fresh: a new connection per request.
    """

    def __init__(
        self, url: str, runtime: str | Contract, model: str, *, api: str = "chat", timeout: float = 30.0,
        token: str | None = None, headers: Mapping[str, str] | None = None, verify: ssl.SSLContext | bool = True,
        fresh: bool = True,
    ) -> None:  # fmt: skip
        self.url, self.model, self.api, self.timeout, self.fresh = url.rstrip("/"), model, api, timeout, fresh
        self.contract = contract_of(runtime) if isinstance(runtime, str) else runtime
        self._headers = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        secure = url.startswith("https:")  # building a context costs 20 ms and is in vain for plain HTTP
        self._verify = httpx.create_ssl_context() if secure and verify is True else verify if secure else False
        self._kept: httpx.Client | None = None
        self.posted = 0  # requests for an answer

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextmanager
    def _open(self, method: str, path: str, json: object = None) -> Iterator[tuple[httpx.Response, Iterator[bytes]]]:
        """The response and its body as it arrives; raises httpx.HTTPError, also when the body was cut or the time is over."""
        limits = httpx.Timeout(self.timeout, connect=min(CONNECT, self.timeout))
        client = self._kept or httpx.Client(verify=self._verify, trust_env=False, timeout=limits)
        if not self.fresh:
            self._kept = client
        deadline = time.monotonic() + self.timeout
        self.posted += method == "POST"
        try:
            with client.stream(method, self.url + path, json=json, headers=self._headers) as response:
                yield response, self._until(deadline, response)
        finally:
            if self.fresh:
                client.close()

    def _until(self, deadline: float, response: httpx.Response) -> Iterator[bytes]:
        """httpx bounds each read, not the whole: a server that drips would hold its client for ever."""
        size = 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"unfinished after {self.timeout:g} s")
            if size > BODY:
                raise httpx.ReadError(f"more than {BODY} bytes")
            yield chunk

    def _json(self, method: str, path: str, json: object = None) -> Any:
        try:
            with self._open(method, path, json) as (response, body):
                raw = b"".join(body)
        except httpx.HTTPError as error:
            raise _breach(f"{method} {path}: {_said(error)}") from None
        if response.status_code != 200:
            raise _breach(f"{method} {path}: {response.status_code} {_message(raw)}")
        try:
            return loads(raw)
        except ValueError:
            raise _breach(f"{method} {path}: {raw[:120]!r} is not JSON") from None

    def health(self) -> Health:
        """One look at the health path. A refused connection is loading: the caller bounds it by its start budget."""
        try:
            with self._open("GET", self.contract.health) as (response, body):
                text = b"".join(body).decode("utf-8", errors="replace")
        except httpx.ConnectError as error:
            return Health("loading", _said(error))
        except httpx.HTTPError as error:
            return Health("failed", _said(error))
        status = response.status_code
        if status == 200:
            return Health("serving", text[:200])
        loading = any(status == code and part in text for code, part in self.contract.loading)
        return Health("loading" if loading else "failed", f"{status} {text[:200]}".strip())

    def identity(self) -> str:
        """The model that the engine itself says it serves; `contract.identity_proves` says what that is worth.

        Raises Breach when it does not answer, or with another shape than its contract's.
        """
        answer = self._json("GET", self.contract.identity)
        try:
            return self.contract.served(answer, self.model)
        except (KeyError, IndexError, TypeError):
            said = f"GET {self.contract.identity}: {str(answer)[:120]} has not the shape of {self.contract.title}'s contract"
            raise _breach(said) from None

    def complete(self, prompt: str, max_tokens: int = 16, stream: bool = True) -> Answer:
        """One completion, greedy. Never raises for what the server or the network did: that is in Answer.error."""
        dialect = self.contract.dialect(self.api)
        more: dict[str, Any] = {"stream": stream, "max_tokens": max_tokens}
        if dialect is None:
            return Answer(error=f"{self.contract.title} has no {self.api} completions", **more)
        reading = _Reading(time.monotonic())
        asked = dialect.body(self.model, prompt, max_tokens, stream)
        try:
            with self._open("POST", dialect.path if stream else dialect.whole_path, asked) as (response, body):
                more["status"] = response.status_code
                if response.status_code != 200:
                    reading.error = f"{response.status_code} {_message(b''.join(body))}"
                elif stream:
                    reading.error = _not_a_stream(dialect, response)
                    for piece in dialect.pieces(body):
                        reading.take(piece)
                else:
                    reading.take(dialect.whole(b"".join(body)))
        except httpx.HTTPError as error:
            after = f" after {reading.chunks} chunks" if reading.chunks else ""
            reading.error = reading.error or _said(error) + after
        return reading.answer(dialect, **more)

    def golden(self, cases: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Answer, bool]]:
        """Each case {prompt, expect, max_tokens?} with its answer and whether `expect` is in it (case does not matter)."""
        told: list[tuple[Mapping[str, Any], Answer, bool]] = []
        for case in cases:
            answer = self.complete(case["prompt"], case.get("max_tokens", 16), stream=False)
            told.append((case, answer, not answer.error and case["expect"].lower() in answer.text.lower()))
        return told

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in order, all of one length. Raises Breach for anything else."""
        path = self.contract.embeddings
        if not path:
            raise _breach(f"{self.contract.title} has no embedding API")
        answer = self._json("POST", path, {"model": self.model, "input": list(texts)})
        try:
            items = sorted(answer["data"], key=lambda item: int(item["index"]))
            vectors = [[float(value) for value in item["embedding"]] for item in items]
        except (KeyError, TypeError, ValueError):
            raise _breach(f"POST {path}: {str(answer)[:120]} is no list of embeddings") from None
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
            sizes = [len(vector) for vector in vectors]
            raise _breach(
                f"POST {path}: vectors of {sizes} values for {len(texts)} texts, one of equal length each is expected"
            )
        if not all(math.isfinite(value) for vector in vectors for value in vector):
            raise _breach(f"POST {path}: an embedding that is not finite")
        return vectors


def _not_a_stream(dialect: Dialect, response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    expected = "text/event-stream" if dialect.framing == "sse" else "application/x-ndjson"
    return "" if kind == expected else f"content type {kind or 'none'}, {expected} is expected of a stream"


def _said(error: httpx.HTTPError) -> str:
    """httpx leaves many messages empty; its class then says it."""
    known: dict[type[httpx.HTTPError], str] = {
        httpx.ConnectError: "connection refused or unreachable", httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time", httpx.RemoteProtocolError: "the connection was cut",
        httpx.ReadError: "the connection was reset",
    }  # fmt: skip
    words = known.get(type(error), type(error).__name__)
    return f"{words}: {error}" if str(error) else words


def _message(raw: bytes) -> str:
    """What an error body says, in any of the runtimes' shapes."""
    text = raw.decode("utf-8", errors="replace")
    try:
        data = loads(text)
    except ValueError:
        return text[:200]
    piece = failure(data) if isinstance(data, dict) else None
    return piece.error if piece else text[:200]


def _breach(text: str) -> Breach:
    return Breach(text, blame=Blame.CANDIDATE)
