"""tiny: a twin of a serving engine. It keeps the OpenAI contract, computes nothing, and takes what it does from its flags.

One process, one event loop, only the standard library; PID 1 of a container. SIGTERM: no new connections, open answers are
finished, exit 0.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import signal
import socket
import sys
import time
from bisect import bisect_left
from collections import Counter
from itertools import accumulate

HEAD, BODY = 64 * 2**10, 8 * 2**20  # bytes of a request
SIZE = 16  # values of an embedding
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def seconds(text: str) -> float:
    """`20ms`, `1.5s`, `2m`; a number alone is seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: 20ms, 1.5s or 2m is expected")
    return float(found[1]) * SECONDS[found[2]]


def size(text: str) -> int:
    """`16Mi`: bytes."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: 16Mi is expected")
    return int(found[1]) * BYTES[found[2]]


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="tiny")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--ttft", type=seconds, default=0.02, metavar="TIME", help="from the request to its first token")
    parser.add_argument("--itl", type=seconds, default=0.005, metavar="TIME", help="from one token to the next")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer when the request names no max_tokens")
    parser.add_argument("--answer", default="Hello Paris, this is a twin: it keeps the contract and computes nothing.")
    parser.add_argument("--error-rate", type=float, default=0.0, metavar="P", help="share of completions answered by 500")
    parser.add_argument("--fail-after", type=int, default=0, metavar="N", help="every completion after the Nth is a 500")
    parser.add_argument("--fail-on", default="", metavar="TEXT", help="a completion whose prompt holds it is a 500")
    parser.add_argument("--memory", type=size, default=0, metavar="BYTES", help="take and touch so much at the start")
    parser.add_argument("--start-after", type=seconds, default=0.0, metavar="TIME", help="503 until then")
    return parser


class Bad(Exception):
    """An answer that is an OpenAI error."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> None:
        self.status, self.kind, self.code = status, kind, code
        super().__init__(message)

    def body(self) -> dict[str, object]:
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.code}}


def event(data: bytes) -> bytes:
    """One event of a stream, in an HTTP chunk of its own."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


class Histogram:
    """Of seconds, in Prometheus' cumulative buckets."""

    def __init__(self, name: str) -> None:
        self.name, self.counts, self.total = name, [0] * (len(BUCKETS) + 1), 0.0

    def observe(self, took: float) -> None:
        self.counts[bisect_left(BUCKETS, took)] += 1
        self.total += took

    def lines(self) -> list[str]:
        below = list(accumulate(self.counts))
        bounds = [*map(str, BUCKETS), "+Inf"]
        buckets = [f'{self.name}_bucket{{le="{bound}"}} {count}' for bound, count in zip(bounds, below, strict=True)]
        ends = [f"{self.name}_sum {self.total:.6f}", f"{self.name}_count {below[-1]}"]
        return [f"# TYPE {self.name} histogram", *buckets, *ends]


class Server:
    """What is served, and what was counted."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.ready_at = time.monotonic() + given.start_after
        self.words = re.findall(r"\S+\s*", given.answer) or ["tiny "]
        self.requests: Counter[tuple[str, int]] = Counter()
        self.tokens = self.completions = self.in_flight = 0
        self.first, self.took = Histogram("tiny_time_to_first_token_seconds"), Histogram("tiny_request_duration_seconds")
        self.connections: set[asyncio.StreamWriter] = set()
        self.idle: set[asyncio.StreamWriter] = set()
        self.served_by = socket.gethostname()
        self.memory = bytearray(given.memory)
        self.memory[::4096] = b"\1" * len(self.memory[::4096])  # zeroed pages are not there until they are written
        self.stopping = False

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other."""
        self.connections.add(writer)
        try:
            while not self.stopping:
                self.idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self.idle.discard(writer)
                lines = head[:-4].decode("latin-1").split("\r\n")
                method, path, version = lines[0].split(" ")
                fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                length = int(fields.get("content-length", 0))
                if length > BODY or "transfer-encoding" in fields:
                    break
                body = await reader.readexactly(length)
                keep = version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"
                await self.request(writer, method, path.partition("?")[0], body, keep)
                if not keep:
                    break
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # the client has left, or speaks no HTTP
        finally:
            self.idle.discard(writer)
            self.connections.discard(writer)
            writer.close()

    async def request(self, writer: asyncio.StreamWriter, method: str, path: str, raw: bytes, keep: bool) -> None:
        """Answer one request, and count it."""
        self.in_flight += 1
        began = time.monotonic()
        status = 499  # stays so for a client that leaves before its answer
        try:
            status = await self.route(writer, method, path, raw, keep)
        except Bad as bad:
            status = bad.status
            self.whole(writer, status, bad.body(), keep)
        finally:
            self.in_flight -= 1
            self.requests[path if path in PATHS else "other", status] += 1
            if status == 200 and method == "POST":
                self.took.observe(time.monotonic() - began)
        await writer.drain()

    async def route(self, writer: asyncio.StreamWriter, method: str, path: str, raw: bytes, keep: bool) -> int:
        """The status that was sent."""
        if path not in PATHS:
            raise Bad(404, f"no such path: {path}")
        if method != PATHS[path]:
            raise Bad(405, f"{path} is asked for with {PATHS[path]}")
        if path == "/metrics":
            self.send(writer, 200, "text/plain; version=0.0.4; charset=utf-8", self.metrics().encode(), keep)
            return 200
        if time.monotonic() < self.ready_at:
            raise Bad(503, "loading", "unavailable_error")
        if path == "/health":
            return self.whole(writer, 200, {"status": "ok"}, keep)
        if path == "/v1/models":
            listed = {"id": self.given.model, "object": "model", "created": 0, "owned_by": "tiny (twin)"}
            return self.whole(writer, 200, {"object": "list", "data": [listed]}, keep)
        asked = self.parsed(raw)
        if path == "/v1/embeddings":
            return self.whole(writer, 200, self.embeddings(asked), keep)
        return await self.complete(writer, path == "/v1/chat/completions", asked, keep)

    def parsed(self, raw: bytes) -> dict[str, object]:
        """The request, for this model."""
        try:
            asked = json.loads(raw)
        except ValueError:
            raise Bad(400, "the body is not JSON") from None
        if not isinstance(asked, dict):
            raise Bad(400, "the body is no JSON object")
        if asked.get("model") != self.given.model:
            raise Bad(404, f"The model `{asked.get('model')}` does not exist", "invalid_request_error", "model_not_found")
        return asked

    async def complete(self, writer: asyncio.StreamWriter, chat: bool, asked: dict[str, object], keep: bool) -> int:
        """A completion, streamed or whole."""
        count = asked.get("max_tokens") or asked.get("max_completion_tokens") or self.given.tokens
        if not isinstance(count, int) or count < 1:
            raise Bad(400, "max_tokens is a number above 0")
        if not asked.get("messages" if chat else "prompt"):
            raise Bad(400, f"{'messages' if chat else 'prompt'} is missing")
        self.completions += 1
        said = json.dumps(asked.get("messages" if chat else "prompt"))
        told = (
            (self.given.fail_after and self.completions > self.given.fail_after)
            or (self.given.fail_on and self.given.fail_on in said)
            or random.random() < self.given.error_rate
        )
        if told:
            raise Bad(500, "told to fail", "server_error")
        words = self.words[:count]
        reason = "length" if count < len(self.words) else "stop"
        prompt = max(1, len(said.split()))
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
        kind = "chat.completion" if chat else "text_completion"
        same = {"id": f"tiny-{self.completions}", "created": int(time.time()), "model": self.given.model}
        if asked.get("stream"):
            options = asked.get("stream_options")
            counted = usage if isinstance(options, dict) and options.get("include_usage") else None
            return await self.stream(writer, chat, same, words, reason, counted, keep)
        await asyncio.sleep(self.given.ttft + self.given.itl * (len(words) - 1))
        self.first.observe(self.given.ttft)
        text = "".join(words)
        answer = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, **answer, "logprobs": None, "finish_reason": reason}
        self.tokens += len(words)
        return self.whole(writer, 200, {**same, "object": kind, "choices": [choice], "usage": usage}, keep)

    async def stream(
        self, writer: asyncio.StreamWriter, chat: bool, same: dict[str, object], words: list[str], reason: str,
        usage: dict[str, int] | None, keep: bool,
    ) -> int:  # fmt: skip
        """One token a chunk, each at its own time after the request: a late one does not make the next ones late."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        same = {**same, "object": "chat.completion.chunk" if chat else "text_completion"}

        def data(text: str, finish: str | None = None, **more: str) -> bytes:
            said = {"delta": {**more, "content": text}} if chat else {"text": text}
            choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
            return json.dumps({**same, "choices": [choice]}).encode()

        writer.write(self.head(200, "text/event-stream", None, keep))
        if chat:
            writer.write(event(data("", role="assistant")))
        before, after = data("\0").split(json.dumps("\0").encode())  # what surrounds each token is made once
        for number, word in enumerate(words):
            if (wait := began + self.given.ttft + number * self.given.itl - loop.time()) > 0:
                await asyncio.sleep(wait)
            if number == 0:
                self.first.observe(loop.time() - began)
            writer.write(event(before + json.dumps(word).encode() + after))
            self.tokens += 1
            await writer.drain()
        tail = event(data("", reason))
        if usage:
            tail += event(json.dumps({**same, "choices": [], "usage": usage}).encode())
        writer.write(tail + event(b"[DONE]") + b"0\r\n\r\n")
        return 200

    def embeddings(self, asked: dict[str, object]) -> dict[str, object]:
        """A vector that depends on its text alone."""
        given = asked.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts:
            raise Bad(400, "input is a text or a list of texts")
        rows = [{"object": "embedding", "index": i, "embedding": vector(str(text))} for i, text in enumerate(texts)]
        count = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "data": rows, "model": self.given.model, "usage": usage}

    def metrics(self) -> str:
        """Prometheus text."""
        lines = ["# TYPE tiny_requests_total counter"]
        lines += [
            f'tiny_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self.requests.items())
        ]
        lines += ["# TYPE tiny_tokens_total counter", f"tiny_tokens_total {self.tokens}"]
        lines += [*self.first.lines(), *self.took.lines()]
        lines += ["# TYPE tiny_in_flight gauge", f"tiny_in_flight {self.in_flight - 1}"]  # without this one
        return "\n".join(lines) + "\n"

    def head(self, status: int, kind: str, length: int | None, keep: bool) -> bytes:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        way = "keep-alive" if keep and not self.stopping else "close"
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {kind}", framing, f"Connection: {way}",
                 f"x-served-by: {self.served_by}"]  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode()

    def send(self, writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, keep: bool) -> None:
        writer.write(self.head(status, kind, len(body), keep) + body)

    def whole(self, writer: asyncio.StreamWriter, status: int, body: object, keep: bool) -> int:
        self.send(writer, status, "application/json", json.dumps(body).encode(), keep)
        return status


PATHS = {
    "/health": "GET", "/v1/models": "GET", "/metrics": "GET",
    "/v1/chat/completions": "POST", "/v1/completions": "POST", "/v1/embeddings": "POST",
}  # fmt: skip


def vector(text: str) -> list[float]:
    """SIZE values from -1 to 1."""
    raw = hashlib.shake_128(text.encode()).digest(SIZE * 2)
    return [int.from_bytes(raw[i : i + 2], "big", signed=True) / 2**15 for i in range(0, len(raw), 2)]


async def serve(given: argparse.Namespace) -> None:
    """Listen until SIGTERM or SIGINT, then finish what is open."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(given)
    listening = await asyncio.start_server(server.connection, given.host, given.port, limit=HEAD, backlog=4096)
    port = listening.sockets[0].getsockname()[1]
    sys.stderr.write(f"tiny (twin) serves {given.model} on {given.host}:{port}\n")
    await stop.wait()
    listening.close()
    server.stopping = True
    for writer in list(server.idle):
        writer.close()
    while server.connections:
        await asyncio.sleep(0.01)


def main() -> None:
    """Exit 0 after a signal."""
    asyncio.run(serve(arguments().parse_args()))


if __name__ == "__main__":
    main()
