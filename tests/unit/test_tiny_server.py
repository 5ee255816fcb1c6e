"""The tiny twin, started as a process: hotfire's own client is who has to be content with it."""

import json
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from hotfire.load.dialects import DIALECTS
from hotfire.runtimes import contract_of
from hotfire.runtimes.client import Answer, RuntimeClient
from hotfire.stand.images import RECIPES

Started = tuple[str, subprocess.Popen[str]]
Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one on a port of its own: its URL and its process."""
    running: list[subprocess.Popen[str]] = []

    def one(*flags: str) -> Started:
        argv = [sys.executable, str(RECIPES / "tiny" / "server.py"), "--host", "127.0.0.1", "--port", "0", *flags]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stderr and select.select([process.stderr], [], [], 10)[0]
        port = re.search(r":(\d+)$", process.stderr.readline().strip())
        assert port
        return f"http://127.0.0.1:{port[1]}", process

    yield one
    for process in running:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def client(url: str, api: str = "chat", model: str = "tiny") -> RuntimeClient:
    return RuntimeClient(url, "tiny", model, api=api, timeout=10)


def ask(url: str, path: str = "/v1/chat/completions", **more: object) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "prompt": "x", **more}
    return httpx.post(url + path, json=body, trust_env=False)


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_the_runtime_client_finds_no_breach(start: Start, api: str, stream: bool) -> None:
    url, _ = start("--answer", "Hello Paris and the rest", "--ttft", "5ms", "--itl", "1ms")
    answer = client(url, api).complete("Where?", 4, stream)
    assert answer.breaches() == []
    assert (answer.text, answer.tokens, answer.finish_reason) == ("Hello Paris and the ", 4, "length")
    assert client(url, api).complete("Where?", 16, stream).finish_reason == "stop"


def test_identity_and_embeddings(start: Start) -> None:
    url, _ = start("--model", "smollm")
    found = client(url, model="smollm")
    assert found.health().state == "serving" and found.identity() == "smollm"
    first, second = found.embed(["a", "b"])
    assert first != second and found.embed(["b", "a"]) == [second, first]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_the_loads_dialect_reads_every_event(start: Start, api: str) -> None:
    url, _ = start("--ttft", "0ms", "--itl", "0ms")
    dialect = DIALECTS[api]
    raw = httpx.post(url + dialect.path, json=dialect.body("tiny", "x", 5), trust_env=False).text
    events = [line.removeprefix("data: ") for line in raw.split("\n") if line]
    said = [dialect.means("[DONE]" if event == "[DONE]" else json.loads(event)) for event in events]
    assert sum(m.token for m in said) == 5 and said[-1].end and not any(m.error for m in said)
    assert [m.usage for m in said if m.usage is not None] == [5] and [m.finish for m in said if m.finish] == ["length"]


def test_tokens_come_at_their_times(start: Start) -> None:
    url, _ = start("--ttft", "150ms", "--itl", "50ms")
    answer = client(url).complete("x", 5)
    assert answer.first_token_s is not None and 0.15 <= answer.first_token_s < 0.3
    assert answer.total_s >= 0.35


def test_loading_then_serving(start: Start) -> None:
    url, _ = start("--start-after", "300ms")
    assert client(url).health().state == "loading" and ask(url).status_code == 503
    deadline = time.monotonic() + 5
    while client(url).health().state != "serving":
        assert time.monotonic() < deadline


def test_errors_have_the_shape_of_openai(start: Start) -> None:
    url, _ = start()
    assert ask(url, model="other").status_code == 404
    assert ask(url, model="other").json()["error"]["code"] == "model_not_found"
    assert ask(url, max_tokens=-1).status_code == 400 and ask(url, messages=[]).status_code == 400
    assert httpx.get(f"{url}/nowhere", trust_env=False).status_code == 404
    assert "does not exist" in client(url, model="other").complete("x").error


def test_told_to_fail(start: Start) -> None:
    url, _ = start("--fail-after", "2", "--ttft", "0ms", "--itl", "0ms")
    assert [ask(url).status_code for _ in range(3)] == [200, 200, 500]
    url, _ = start("--error-rate", "1")
    assert ask(url).json()["error"]["type"] == "server_error"


def test_a_connection_is_kept_and_counted(start: Start) -> None:
    url, _ = start("--ttft", "0ms", "--itl", "0ms")
    with httpx.Client(base_url=url, trust_env=False) as http:
        body = {"model": "tiny", "prompt": "x", "max_tokens": 3}
        for stream in (True, False):
            answer = http.post("/v1/completions", json={**body, "stream": stream})
            assert answer.headers["x-served-by"] and answer.headers["connection"] == "keep-alive"
        told = http.get("/metrics").text
    assert 'tiny_requests_total{path="/v1/completions",status="200"} 2\n' in told
    assert "tiny_tokens_total 6\n" in told and "tiny_in_flight 0\n" in told


def test_a_prompt_may_be_what_fails_and_what_took_long_is_counted(start: Start) -> None:
    url, _ = start("--fail-on", "no such", "--ttft", "120ms", "--itl", "0ms")
    assert [ask(url, prompt=text, path="/v1/completions").status_code for text in ("no such", "any such")] == [500, 200]
    client(url).complete("x", 2)
    told, counts = httpx.get(f"{url}/metrics", trust_env=False).text, contract_of("tiny").counts
    assert counts and counts.read(told, "errors", 0.0) == (3, 1)
    assert [counts.read(told, kind, limit) for kind in ("ttft", "e2e") for limit in (0.06, 0.2)] == [(2, 2), (2, 0)] * 2


def test_memory_is_taken(start: Start) -> None:
    def resident(process: subprocess.Popen[str]) -> int:
        with open(f"/proc/{process.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    assert resident(start("--memory", "64Mi")[1]) - resident(start()[1]) > 60 * 2**20


def test_sigterm_ends_what_is_open_and_nothing_new_begins(start: Start) -> None:
    url, process = start("--itl", "100ms")
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(client(url).complete("x", 6)))
    with httpx.Client(base_url=url, trust_env=False) as kept:
        kept.get("/health")  # a connection that is open and idle must not hold the process
        asking.start()
        while "tiny_in_flight 1\n" not in httpx.get(f"{url}/metrics", trust_env=False).text:
            pass
        process.terminate()
        assert process.wait(5) == 0
        asking.join(5)
    assert answers and answers[0].breaches() == []
    assert client(url).health().state == "loading"


def test_two_hundred_streams_at_once(start: Start) -> None:
    url, _ = start("--itl", "20ms", "--ttft", "50ms")
    texts: list[str] = []

    def one() -> None:
        texts.append(client(url).complete("x", 8).error)

    threads = [threading.Thread(target=one) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [""] * 200
