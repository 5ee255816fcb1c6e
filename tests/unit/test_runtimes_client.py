"""The runtime client against servers that lie: raw sockets, because a well-behaved server library cannot misbehave."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hotfire.errors import Breach
from hotfire.runtimes import CONTRACTS
from hotfire.runtimes.client import Answer, RuntimeClient

Says = Callable[..., str]
SSE = "Content-Type: text/event-stream\r\n"
NDJSON = "Content-Type: application/x-ndjson\r\n"
JSON = "Content-Type: application/json\r\n"


@pytest.fixture
def says() -> Iterator[Says]:
    """A server that answers every connection with the given bytes, then closes it; records what it was sent."""
    listeners: list[socket.socket] = []

    def start(*parts: bytes, pause: float = 0.0, received: list[bytes] | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    raw = _request(connection)
                    if received is not None:
                        received.append(raw)
                    try:
                        for part in parts:
                            connection.sendall(part)
                            threading.Event().wait(pause)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _request(connection: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65536)
    head, _, body = raw.partition(b"\r\n\r\n")
    sizes = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while sizes and len(body) < sizes[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def whole(text: str, headers: str = JSON, status: str = "200 OK") -> bytes:
    raw = text.encode()
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode() + raw


def chunked(*parts: str, headers: str = SSE, ended: bool = True) -> list[bytes]:
    head = f"HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode()
    bodies = [f"{len(part.encode()):x}\r\n{part}\r\n".encode() for part in parts]
    return [head, *bodies, *([b"0\r\n\r\n"] if ended else [])]


def delta(text: str = "", reason: str | None = None) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}, 'finish_reason': reason}]})}\n\n"


USAGE = 'data: {"choices": [], "usage": {"completion_tokens": 4}}\n\n'
DONE = "data: [DONE]\n\n"
GOOD = (delta("Pa"), delta("ris"), delta(reason="stop"), USAGE, DONE)


def ask(url: str, runtime: str = "vllm", *, api: str = "chat", stream: bool = True, timeout: float = 5.0) -> Answer:
    return RuntimeClient(url, runtime, "m", api=api, timeout=timeout).complete("capital of France?", 8, stream=stream)


def test_a_whole_stream_is_a_whole_answer(says: Says) -> None:
    answer = ask(says(*chunked(": ping\n\n", *GOOD)))
    assert (answer.text, answer.finish_reason, answer.tokens, answer.chunks) == ("Paris", "stop", 4, 2)
    assert answer.ended_properly and answer.ok and answer.breaches() == []
    assert answer.first_token_s is not None and 0 < answer.first_token_s <= answer.total_s


TRAPS: dict[str, tuple[Sequence[str], str]] = {
    "no end marker": (GOOD[:-1], "the stream ended without its end marker (data: [DONE])"),
    "no finish reason": ((delta("Pa"), DONE), "the stream ended after 1 chunks without a finish reason"),
    "error, then done": ((delta("Pa"), 'data: {"error": {"message": "boom"}}\n\n', DONE), "boom"),
    "error as text": ((delta("Pa"), 'data: {"error": "out of memory"}\n\n'), "out of memory"),
    "error object": ((delta("Pa"), 'data: {"object": "error", "message": "queue full"}\n\n', DONE), "queue full"),
    "old llama.cpp error": ((delta("Pa"), 'error: {"code": 500}\n\n'), '{"code": 500}'),
    "aborted": ((delta("Pa", "abort"), DONE), "finish reason 'abort'"),
    "text after the end": ((*GOOD, delta("!")), "more after the end marker: !"),
    "error after the end": ((*GOOD, 'data: {"error": "late"}\n\n'), "more after the end marker: late"),
    "no JSON": (("data: {oops\n\n", DONE), "'{oops' is not JSON"),
    "an HTML page": (("<html>502</html>\n",), "'<html>502</html>' is no line of an event stream"),
    "another shape": (('data: {"text": "hi"}\n\n', DONE), '{"text": "hi"} has not the shape of an answer'),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_stream_that_is_not_whole_is_an_error(says: Says, name: str) -> None:
    parts, error = TRAPS[name]
    answer = ask(says(*chunked(*parts)))
    assert (answer.error, answer.ended_properly, answer.status) == (error, False, 200)
    assert answer.breaches() == [error]


def test_a_chunked_body_cut_in_the_middle_is_an_error(says: Says) -> None:
    answer = ask(says(*chunked(delta("Pa"), delta("ris"), ended=False)))
    assert answer.error.startswith("the connection was cut: ") and answer.error.endswith("after 2 chunks")


def test_a_chunked_body_cut_behind_its_end_marker_is_still_an_error(says: Says) -> None:
    assert ask(says(*chunked(*GOOD, ended=False))).error.startswith("the connection was cut")


def test_a_body_that_ends_with_its_connection_needs_the_end_marker(says: Says) -> None:
    head = f"HTTP/1.1 200 OK\r\n{SSE}Connection: close\r\n\r\n"
    assert ask(says((head + "".join(GOOD)).encode())).ok
    assert "without its end marker" in ask(says((head + "".join(GOOD[:-1])).encode())).error


def test_a_stream_that_drips_past_the_timeout_is_an_error(says: Says) -> None:
    began = time.monotonic()
    answer = ask(says(*chunked(*[delta("x")] * 100), pause=0.05), timeout=0.4)
    assert answer.error.startswith("no answer in time: unfinished after 0.4 s after ")
    assert time.monotonic() - began < 2


def test_line_separators_inside_json_do_not_end_a_line(says: Says) -> None:
    raw = 'data: {"choices": [{"delta": {"content": "a\u2028b\x85c"}, "finish_reason": "stop"}]}\n\n'
    assert ask(says(*chunked(raw, DONE))).text == "a\u2028b\x85c"


def test_a_character_split_over_two_chunks_stays_whole(says: Says) -> None:
    raw = ('data: {"choices": [{"delta": {"content": "é"}, "finish_reason": "stop"}]}\n\n' + DONE).encode()
    at = raw.index(b"\xc3") + 1
    head = f"HTTP/1.1 200 OK\r\n{SSE}Connection: close\r\n\r\n".encode()
    assert ask(says(head, raw[:at], raw[at:], pause=0.05)).text == "é"


def test_a_json_answer_to_a_stream_request_is_an_error(says: Says) -> None:
    answer = ask(says(whole("".join(GOOD))))
    assert answer.error == "content type application/json, text/event-stream is expected of a stream"


def test_eight_tokens_in_one_piece_are_not_a_stream(says: Says) -> None:
    answer = ask(says(*chunked(delta("Paris it is", "stop"), USAGE, DONE)))
    assert answer.ok and answer.breaches() == ["4 tokens came in one piece: not a stream"]


def test_a_refusal_carries_status_and_message(says: Says) -> None:
    body = '{"error": {"message": "The model `m` does not exist.", "code": 404}}'
    answer = ask(says(whole(body, status="404 Not Found")))
    assert (answer.status, answer.error) == (404, "404 The model `m` does not exist.")


def test_nobody_there_is_an_error_and_not_an_exception() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = ask(f"http://127.0.0.1:{port}")
    assert answer.status is None and answer.error.startswith("connection refused or unreachable")
    assert RuntimeClient(f"http://127.0.0.1:{port}", "vllm", "m").health().state == "loading"


def test_a_whole_answer_needs_finish_reason_and_counts(says: Says) -> None:
    choice = {"message": {"content": "Paris"}, "finish_reason": "stop"}
    good = {"choices": [choice], "usage": {"completion_tokens": 3}}
    assert ask(says(whole(json.dumps(good))), stream=False).breaches() == []
    uncounted = ask(says(whole(json.dumps({"choices": [choice]}))), stream=False)
    assert uncounted.breaches() == ["the server counted no tokens (usage.completion_tokens)"]
    unfinished = {"choices": [{"message": {"content": "Par"}, "finish_reason": None}]}
    assert ask(says(whole(json.dumps(unfinished))), stream=False).error == "the answer has no finish reason"


def test_a_whole_answer_cut_in_the_middle_is_an_error(says: Says) -> None:
    raw = whole('{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}')
    assert ask(says(raw[:-9]), stream=False).error.startswith("the connection was cut")


def test_ollama_ends_with_done(says: Says) -> None:
    parts = ['{"message": {"content": "Pa"}, "done": false}\n', '{"message": {"content": "ris"}, "done": false}\n']
    last = '{"message": {"content": ""}, "done": true, "done_reason": "stop", "eval_count": 3}\n'
    answer = ask(says(*chunked(*parts, last, headers=NDJSON)), "ollama")
    assert (answer.text, answer.tokens, answer.breaches()) == ("Paris", 3, [])
    cut = ask(says(*chunked(*parts, headers=NDJSON)), "ollama")
    assert cut.error == "the stream ended after 2 chunks without a finish reason"
    failed = ask(says(*chunked(*parts, '{"error": "runner died"}\n', headers=NDJSON)), "ollama")
    assert failed.error == "runner died"


def test_tgi_ends_with_the_generated_text(says: Says) -> None:
    part = 'data:{"token": {"text": "Pa", "special": false}, "generated_text": null, "details": null}\n\n'
    last = (
        'data:{"token": {"text": "ris", "special": false}, "generated_text": "Paris",'
        ' "details": {"finish_reason": "eos_token", "generated_tokens": 2}}\n\n'
    )
    answer = ask(says(*chunked(part, last)), "tgi", api="completions")
    assert (answer.text, answer.tokens, answer.finish_reason, answer.error) == ("Paris", 2, "eos_token", "")
    assert "without a finish reason" in ask(says(*chunked(part)), "tgi", api="completions").error


IDENTITIES = {
    "llamacpp": ('{"data": [{"id": "m"}]}', "m"),
    "vllm": ('{"data": [{"id": "base"}, {"id": "m"}]}', "m"),
    "trtllm": ('{"data": [{"id": "other"}]}', "other"),
    "tiny": ('{"data": [{"id": "m"}]}', "m"),
    "tgi": ('{"model_id": "org/m", "model_sha": null}', "org/m"),
    "ollama": ('{"models": [{"name": "m:latest", "digest": "sha256:1"}]}', "m"),
}


@pytest.mark.parametrize("runtime", CONTRACTS)
def test_the_engine_says_what_it_serves(says: Says, runtime: str) -> None:
    answer, served = IDENTITIES[runtime]
    received: list[bytes] = []
    client = RuntimeClient(says(whole(answer), received=received), runtime, "m", token="s3cret")
    assert client.identity() == served
    assert received[0].startswith(f"GET {CONTRACTS[runtime].identity} HTTP/1.1".encode())
    assert b"authorization: bearer s3cret" in received[0].lower()


@pytest.mark.parametrize("body", ['{"data": []}', "{}", "[]", '{"data": [7]}'])
def test_an_identity_of_another_shape_is_a_breach(says: Says, body: str) -> None:
    with pytest.raises(Breach, match="has not the shape of vLLM's contract"):
        RuntimeClient(says(whole(body)), "vllm", "m").identity()


def test_health_is_loading_serving_or_failed(says: Says) -> None:
    loading = '{"error": {"message": "Loading model", "code": 503}}'
    busy = "503 Service Unavailable"
    assert RuntimeClient(says(whole(loading, status=busy)), "llamacpp", "m").health().state == "loading"
    assert RuntimeClient(says(whole('{"status":"ok"}')), "llamacpp", "m").health().state == "serving"
    assert RuntimeClient(says(whole("LLM is unavailable.", status=busy)), "trtllm", "m").health().state == "failed"


def test_embeddings_come_in_order_and_of_one_length(says: Says) -> None:
    def embed(*items: object) -> list[list[float]]:
        return RuntimeClient(says(whole(json.dumps({"data": items}))), "vllm", "m", api="embeddings").embed(["a", "b"])

    first, second = {"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [3, 4.5]}
    assert embed(second, first) == [[1.0, 2.0], [3.0, 4.5]]
    with pytest.raises(Breach, match="one of equal length each is expected"):
        embed(first)
    with pytest.raises(Breach, match="is no list of embeddings"):
        embed(first, {"index": 1, "embedding": None})


def test_golden_cases_are_right_only_when_the_answer_is_whole(says: Says) -> None:
    choice = {"message": {"content": "It is PARIS."}, "finish_reason": "stop"}
    client = RuntimeClient(says(whole(json.dumps({"choices": [choice]}))), "vllm", "m")
    told = client.golden([{"prompt": "a", "expect": "Paris"}, {"prompt": "b", "expect": "Rome"}])
    assert [right for _, _, right in told] == [True, False]


@pytest.mark.parametrize(("fresh", "connections"), [(True, 2), (False, 1)])
def test_every_request_is_on_a_connection_of_its_own_unless_kept(fresh: bool, connections: int) -> None:
    peers: set[object] = set()

    class Kept(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            peers.add(self.client_address)
            self.wfile.write(whole('{"data": [{"id": "m"}]}').replace(b"Connection: close\r\n", b""))

        def log_message(self, *args: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Kept) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = RuntimeClient(f"http://127.0.0.1:{server.server_port}", "vllm", "m", fresh=fresh)
        assert [client.identity(), client.identity()] == ["m", "m"]
        client.close()
        server.shutdown()
    assert len(peers) == connections
