"""Each way an answer can go wrong ends in time with its own error class, through a real socket and the real carrier."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hotfire.errors import BadInput
from hotfire.gates.statistics import judge_spaced
from hotfire.load.connection import Dialer
from hotfire.load.plan import Plan, Prompt, draw
from hotfire.load.run import LoadRun
from hotfire.load.samples import Samples
from hotfire.load.target import Target
from hotfire.record.redactor import Redactor
from hotfire.report import objective
from hotfire.words import Outcome, Reason

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Served-By: pod-1\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


TOKEN = chunk(b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n')
LAST = chunk(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')
DONE, END = chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"
WHOLE = HEAD + TOKEN + TOKEN + LAST + DONE + END
NO_MODEL = b'{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","code":404}'
SCRIPTS: dict[str, tuple[list[bytes | float], str]] = {
    "a whole answer": ([HEAD, 0.05, TOKEN, 0.05, TOKEN, LAST, DONE, END], ""),
    "bytes one by one": ([WHOLE[i : i + 1] for i in range(len(WHOLE))], ""),
    "an end marker and no end of the framing": ([HEAD + TOKEN + LAST + DONE, 1.2], ""),
    "never answers": ([5.0], "timeout_first"),
    "a head and nothing more": ([HEAD, 5.0], "timeout_first"),
    "stalls in the middle": ([HEAD + TOKEN, 5.0], "timeout_total"),
    "streams for ever": ([HEAD, *[TOKEN, 0.02] * 200], "timeout_total"),
    "reset before anything": ([-1.0], "reset_before_first"),
    "reset in the middle": ([HEAD + TOKEN, 0.1, -1.0], "reset_mid_stream"),
    "reset in an event that the end frames": (
        [b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: {"choices":[{"del', 0.1, -1.0],
        "reset_mid_stream",
    ),
    "an error event": ([HEAD + TOKEN + chunk(b'data: {"error":{"message":"key sesame"}}\n\n') + DONE + END], "error_event"),
    "an error that holds half a character": ([HEAD + chunk(b'data: {"error":{"message":"\\ud83d"}}\n\n') + END], "error_event"),
    "an error with the key where a note is cut": (
        [HEAD + chunk(b'data: {"error":{"message":"' + b"x" * 197 + b'sesame"}}\n\n') + DONE + END],
        "error_event",
    ),
    "an error with a secret of the engine": (
        [HEAD + chunk(b'data: {"error":{"message":"no hf_token123"}}\n\n') + END],
        "error_event",
    ),
    "a finish reason with one": (
        [HEAD + TOKEN + chunk(b'data: {"choices":[{"delta":{},"finish_reason":"hf_token123"}]}\n\n') + DONE + END],
        "bad_finish",
    ),
    "a refusal cut short": ([b"HTTP/1.1 503 Oh\r\nContent-Length: 500\r\n\r\nno", 5.0], "http_5xx"),
    "an instant nothing": ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], "empty"),
    "no end marker": ([HEAD + TOKEN + LAST + END], "no_done"),
    "unknown path": ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"], "http_404"),
    "a model it does not serve": (
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: " + str(len(NO_MODEL)).encode() + b"\r\n\r\n", NO_MODEL],
        "unknown_model",
    ),
    "a request it refuses": ([b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], "http_4xx"),
    "nothing but comments for ever": ([HEAD, *[chunk(b": still here\n\n"), 0.02] * 200], "timeout_first"),
    "a head for ever": ([b"HTTP/1.1 200 OK\r\n", *[b"X-Filler: 1234567890\r\n" * 400, 0.01] * 200], "bad_answer"),
    "overload": ([b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"], "http_429"),
    "broken": ([b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n"], "http_5xx"),
    "another protocol": ([b"220 mail.example ESMTP\r\n\r\n"], "bad_answer"),
}


@pytest.fixture(scope="module")
def ran(scripted: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """One load in which every request meets another script; `names[i]` is the script of request i."""
    folder = tmp_path_factory.mktemp("errors")
    server = scripted({name: script for name, (script, _) in SCRIPTS.items()})
    plan = draw(folder / "plan.jsonl", "constant 20/s", [Prompt(name, name) for name in SCRIPTS], [len(SCRIPTS)])
    target = Target(server.url, "chat", "m", timeout_s=2.0, scale_s=5.0)
    headers, hidden = {"Authorization": "Bearer sesame"}, Redactor({"hf/token": "hf_token123"}).forms
    with LoadRun.start(plan, target, folder / "out", headers=headers, hidden=hidden) as load:
        samples, ended = load.wait_look(1), load.stop()
    names = [item.prompt for item in plan.items()]
    yield SimpleNamespace(samples=samples, names=names, ended=ended, server=server, out=folder / "out")


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_failure_has_its_class_and_no_good_latency(ran: SimpleNamespace, name: str) -> None:
    row, error = ran.names.index(name), SCRIPTS[name][1]
    assert ran.samples.names["err"][ran.samples.err[row]] == error
    assert all(np.isfinite(ran.samples.latency(metric)[row]) == (error == "") for metric in ("ttft", "itl", "e2e"))


def test_an_error_is_never_retried(ran: SimpleNamespace) -> None:
    """The server heard each request once, whatever became of it: 404, 429, 503, a reset, a stall; a gate gets them all."""
    assert len(ran.server.heads) == len(SCRIPTS) == len(ran.samples.err)
    judged = judge_spaced(len(SCRIPTS), int(ran.samples.is_error().sum()), 0.2, look=5, last_look=True)
    assert (judged.outcome, judged.reason) == (Outcome.FAIL, Reason.BREACH)


def test_everything_ends_within_the_timeout(ran: SimpleNamespace) -> None:
    assert (ran.samples.end - ran.samples.took).max() < 3.5


def test_the_key_is_sent_and_never_written(ran: SimpleNamespace) -> None:
    assert all("Authorization: Bearer sesame" in head for head in ran.server.heads)
    assert not any(b"sesame" in path.read_bytes() for path in ran.out.iterdir() if path.suffix != ".gz")
    assert not any("ses" in str(row) for row in rows(ran.ended.samples))  # nor the beginning of it


def test_what_the_target_says_of_other_secrets_is_named_and_never_written(ran: SimpleNamespace) -> None:
    text = str(list(rows(ran.ended.samples)))
    assert "hf_token123" not in text and text.count("[redacted hf/token]") == 3  # the note of each, and the reason itself


def test_who_answered_is_read_from_the_header(ran: SimpleNamespace) -> None:
    row = ran.names.index("a whole answer")
    assert ran.samples.names["by"][ran.samples.by[row]] == "pod-1"


def test_a_client_among_failures_is_still_sound(ran: SimpleNamespace) -> None:
    assert ran.ended.client["sound"], ran.ended.client["cause"]


def rows(path: Path) -> list[Any]:
    from hotfire.load.samples import Tail

    return list(Tail(path).rows())


def one_load(plan: Plan, url: str, out: Path, **options: Any) -> Samples:
    with LoadRun.start(plan, Target(url, "chat", "m", **{"timeout_s": 2.0, **options}), out) as load:
        return load.wait_look(1)


@pytest.mark.parametrize(("url", "error"), [("http://127.0.0.1:1", "connect_refused"), ("http://no-such-host.invalid", "dns")])
def test_an_unreachable_target_fails_every_request(planned: Callable[..., Plan], tmp_path: Path, url: str, error: str) -> None:
    samples = one_load(planned("constant 50/s", 10), url, tmp_path / "out")
    assert samples.errors() == {error: 10}
    assert samples.bad("ttft", 1e9).all()


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """400 requests to a port where nobody listens."""
    folder = tmp_path_factory.mktemp("refused")
    plan = draw(folder / "plan.jsonl", "constant 500/s", [Prompt("p", "hello")], [400])
    return one_load(plan, "http://127.0.0.1:1", folder / "out")


@pytest.mark.parametrize("arrivals", ["spaced", "constant"])
@pytest.mark.parametrize(
    ("metric", "statistic", "limit"), [("errors", "ratio", 0.2), ("ttft", "p80", 60.0), ("e2e", "p80", 60.0)]
)
def test_nothing_but_errors_fails_every_gate(
    refused: Samples, arrivals: str, metric: str, statistic: str, limit: float
) -> None:
    """However generous its limit, and although every refusal came within a millisecond."""
    gate = {"metric": metric, "statistic": statistic, "limit": limit, "confidence": 0.95, "arrivals": arrivals,
            "timeout_s": 2.0, "until": 5.0, "requests": 400, "required_gates": 3}  # fmt: skip
    assert objective.judge(refused, gate, look=1, last_look=False).outcome is Outcome.FAIL


def test_a_plain_server_behind_https_is_a_tls_error(
    scripted: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = scripted({})
    samples = one_load(planned("constant 50/s", 4), server.url.replace("http:", "https:"), tmp_path / "out", timeout_s=1.0)
    assert samples.errors() == {"tls": 4}


def test_each_place_is_dialled_by_its_own_family() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        places = (f"a=127.0.0.1:{listener.getsockname()[1]}", "b=[::1]:1")
        dialer = Dialer(Target("http://nowhere.invalid", "chat", "m", pods=places))
        dialer.dial(0, 0).close()
        listener.accept()[0].close()


@pytest.mark.parametrize(("scheme", "error"), [("http", "timeout_first"), ("https", "connect_timeout")])
def test_a_server_that_accepts_and_never_answers_ends_in_time(
    planned: Callable[..., Plan], tmp_path: Path, scheme: str, error: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        samples = one_load(planned("constant 50/s", 6), url, tmp_path / "out", timeout_s=0.5)
    assert samples.errors() == {error: 6} and np.isinf(samples.latency("e2e")).all()
    assert (samples.end - samples.took).max() < 2.0


REFUSED = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo long"


@pytest.mark.parametrize(
    ("said", "error"), [(b"", "reset_before_first"), (REFUSED, "http_4xx"), (REFUSED[:30], "reset_mid_stream")]
)
def test_a_reset_while_the_request_is_half_sent_is_no_success(tmp_path: Path, said: bytes, error: str) -> None:
    """The target reads a little of a long prompt, says what it says and closes: what it left unread makes that a reset."""
    plan = draw(tmp_path / "plan.jsonl", "constant 20/s", [Prompt("long", "x" * 4_000_000)], [4])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        threading.Thread(target=hang_up, args=(listener, said), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        samples = one_load(plan, url, tmp_path / "out")
    assert samples.errors() == {error: 4} and np.isinf(samples.latency("e2e")).all()


def hang_up(listener: socket.socket, said: bytes) -> None:
    with suppress(OSError):
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1024)
                sock.sendall(said)


def test_a_changed_plan_never_starts(planned: Callable[..., Plan], tmp_path: Path) -> None:
    plan = planned("constant 50/s", 4)
    plan.path.write_text(plan.path.read_text().replace("hello", "other"))
    with (
        pytest.raises(BadInput, match="was changed"),
        LoadRun.start(plan, Target("http://127.0.0.1:1", "chat", "m"), tmp_path / "o"),
    ):
        pass


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x", "http://"])
def test_a_target_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        Target(url, "chat", "m")
