"""An answer means the same however its bytes were cut into reads, and nothing that failed reads as a success."""

import json
from collections.abc import Callable

import pytest

from hotfire.load.dialects import DIALECTS
from hotfire.load.streams import Answer, BadAnswer

BOOM = b'data: {"error":{"message":"boom"}}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
LENGTH = b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def token(text: str) -> bytes:
    said = {"choices": [{"delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(said, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def read(raw: bytes, size: int = 1 << 20, api: str = "chat") -> Answer:
    """Feed it in reads of that many bytes; the stamp of each is its number."""
    answer = Answer(DIALECTS[api])
    for number, start in enumerate(range(0, len(raw), size)):
        answer.feed(raw[start : start + size], number)
    return answer


WHOLE = (
    HEAD
    + chunk(ROLE)
    + chunk(token("Grüße 😀"))
    + chunk(token("\n"))
    + chunk(token('"content":"'))
    + chunk(LENGTH + USAGE + DONE)
    + END
)
CRLF = (
    HEAD
    + b"".join(
        chunk(e.replace(b"\n", b"\r\n")) for e in (b": ping\n\n", ROLE, token("a"), token("b"), token("c"), LENGTH, USAGE, DONE)
    )
    + END
)
GLUED = (
    HEAD
    + chunk(b": keep-alive\n\n" + ROLE + token("a") + token("b") + b"event: x\nid: 7\n" + token("c") + LENGTH + USAGE + DONE)
    + END
)
MULTI = (
    HEAD
    + chunk(
        b'data: {"choices":[{"delta":\ndata: {"content":"a"},"finish_reason":null}]}\n\n'
        + token("b")
        + token("c")
        + LENGTH
        + USAGE
        + DONE
    )
    + END
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 50, 1000, 1 << 20])
@pytest.mark.parametrize("raw", [WHOLE, CRLF, GLUED, MULTI], ids=["whole", "crlf", "glued", "multi-line"])
def test_however_it_is_cut_it_means_the_same(raw: bytes, size: int) -> None:
    answer = read(raw, size)
    assert (answer.tokens, answer.finish, answer.usage, answer.complete, answer.reusable) == (3, "length", 3, True, True)
    assert answer.verdict() == ""
    assert answer.first_byte == 0 <= answer.head_at <= answer.stamps[0] <= answer.stamps[-1] <= answer.done_at


@pytest.mark.parametrize("last", ["\r", "\n", "\r\n"])
def test_every_line_end_of_the_standard_ends_a_line(last: str) -> None:
    events = b"".join((ROLE, token("a"), LENGTH, DONE)).replace(b"\n", last.encode())
    assert read(HEAD + chunk(events) + END, 5).verdict() == ""


def test_a_role_only_chunk_is_no_token() -> None:
    answer = Answer(DIALECTS["chat"])
    for at, piece in enumerate((HEAD + chunk(ROLE), chunk(token("a")), chunk(token("b")))):
        answer.feed(piece, at * 10)
    assert (answer.first_byte, [*answer.stamps], answer.gaps()) == (0, [10, 20], [10])


def test_tokens_of_one_read_are_no_time_apart() -> None:
    answer = Answer(DIALECTS["chat"])
    answer.feed(HEAD, 0)
    answer.feed(chunk(token("a")), 5)
    answer.feed(chunk(token("b")) + chunk(token("c")), 9)
    assert (answer.tokens, answer.gaps()) == (3, [4, 0])


@pytest.mark.parametrize("rest", [b"", chunk(LENGTH) + chunk(DONE) + END, chunk(token("x"))[:9], chunk(token("a")) * 3 + b"1"])
def test_many_tokens_of_one_read_are_each_counted_and_what_follows_them_is_read(rest: bytes) -> None:
    """As the same bytes, read one by one."""
    many = b"".join(chunk(token(text)) for text in ("b", "long" * 40, r"q\"", "c")) + rest
    once, slowly = Answer(DIALECTS["chat"]), Answer(DIALECTS["chat"])
    once.feed(HEAD + chunk(token("a")), 5)
    assert once.feed(many, 9) == (END in rest) and once.first_byte == 5
    for at in range(len(raw := HEAD + chunk(token("a")) + many)):
        slowly.feed(raw[at : at + 1], 9)
    assert (once.tokens, once.ended, once.complete, once.finish) == (
        slowly.tokens,
        slowly.ended,
        slowly.complete,
        slowly.finish,
    )


@pytest.mark.parametrize(
    "delta", ['"reasoning_content":"hm"', '"reasoning":"hm"', '"tool_calls":[{"index":0}]', '"content": "x"']
)
def test_reasoning_and_tool_calls_are_tokens(delta: str) -> None:
    said = f'data: {{"choices":[{{"delta":{{{delta}}},"finish_reason":null}}]}}\n\n'.encode()
    assert read(HEAD + chunk(said) + chunk(LENGTH) + chunk(DONE) + END).verdict() == ""


FAILED: dict[str, tuple[bytes, str]] = {
    "error event": (HEAD + chunk(token("a")) + chunk(BOOM) + chunk(DONE) + END, "error_event"),
    "old error field": (HEAD + chunk(token("a")) + chunk(b'error: {"code":500}\n\n') + END, "error_event"),
    "no end marker": (HEAD + chunk(token("a")) + chunk(LENGTH) + END, "no_done"),
    "no finish reason": (HEAD + chunk(token("a")) + chunk(DONE) + END, "no_finish"),
    "aborted": (HEAD + chunk(token("a")) + chunk(LENGTH.replace(b"length", b"abort")) + chunk(DONE) + END, "bad_finish"),
    "nothing said": (HEAD + chunk(ROLE) + chunk(LENGTH) + chunk(DONE) + END, "empty"),
    "nothing at all": (HEAD + END, "empty"),
    "empty body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "empty"),
    "not found": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "http_404"),
    "no such model": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 29\r\n\r\n{\"error\":\"model 'm' not found", "unknown_model"),
    "refused": (b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n", "http_4xx"),
    "too many": (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "http_429"),
    "broken": (b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x") + END, "http_5xx"),
    "moved": (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "http_other"),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 6, 1 << 20])
@pytest.mark.parametrize("name", FAILED)
def test_what_failed_never_reads_as_a_success(name: str, size: int) -> None:
    raw, error = FAILED[name]
    answer = read(raw, size)
    assert (answer.complete, answer.verdict()) == (True, error)
    assert error != "bad_finish" or answer.note() == "finish reason 'abort'"


CUT: dict[str, tuple[bytes, str]] = {
    "before anything": (b"", "reset_before_first"),
    "in the head": (HEAD[:30], "reset_mid_stream"),
    "in a chunk": (HEAD + chunk(token("a"))[:20], "reset_mid_stream"),
    "between chunks": (HEAD + chunk(token("a")) + chunk(LENGTH), "reset_mid_stream"),
    "after the end marker": (HEAD + chunk(token("a")) + chunk(LENGTH) + chunk(DONE), ""),
    "in a body of known length": (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + token("a"), "reset_mid_stream"),
    "framed by the end": (b"HTTP/1.0 200 OK\r\n\r\n" + token("a") + LENGTH + DONE, ""),
    "framed by the end, cut": (b"HTTP/1.0 200 OK\r\n\r\n" + token("a"), "no_done"),
    "error, then gone": (HEAD + chunk(token("a")) + chunk(b'data: {"error":"x"}\n\n'), "error_event"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_connection_that_ends_early_has_its_own_class(name: str) -> None:
    raw, error = CUT[name]
    assert read(raw).closed() == error


@pytest.mark.parametrize(
    ("api", "half"),
    [("chat", token("a") + LENGTH[:30]), ("ollama", b'{"message":{"content":'), ("embeddings", b'{"data":[{"embedding":[0.1,')],
    ids=["sse", "ndjson", "json"],
)
def test_half_an_event_before_the_end_that_frames_it_is_a_reset(api: str, half: bytes) -> None:
    assert read(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + half, api=api).closed() == "reset_mid_stream"


NO_ANSWERS = {
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "no chunk size": HEAD + b"zz\r\n",
    "a chunk of less than nothing": HEAD + b"-5\r\nhello\r\n",
    "a chunk size with a sign": HEAD + b"+5\r\nhello\r\n",
    "a length of another script": "HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nno".encode("latin-1"),
    "a length without end": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "half a document": HEAD + chunk(b"data: {broken\n\n"),
    "a number": HEAD + chunk(b"data: 7\n\n"),
    "too deep": HEAD + chunk(b"data: " + b"[" * 100_000 + b"\n\n"),
    "a finish reason that is no text": HEAD + chunk(b'data: {"choices":[{"delta":{},"finish_reason":{"a":1}}]}\n\n'),
}


@pytest.mark.parametrize("raw", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_of_this_api_is_refused(raw: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(raw)


@pytest.mark.parametrize("said", ['"many"', "[3]", "-1", "1" + "0" * 400, "null"])
def test_a_count_of_tokens_that_is_none_is_left_out(said: str) -> None:
    usage = f'data: {{"choices":[],"usage":{{"completion_tokens":{said}}}}}\n\n'.encode()
    answer = read(HEAD + chunk(token("a") + LENGTH) + chunk(usage) + chunk(DONE) + END)
    assert (answer.verdict(), answer.usage) == ("", None)


def test_a_length_frames_a_stream_as_well_as_chunks_do() -> None:
    body = token("a") + LENGTH + DONE
    answer = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, 9)
    assert (answer.complete, answer.reusable, answer.verdict()) == (True, True, "")


def test_trailers_belong_to_the_answer() -> None:
    raw = HEAD + chunk(token("a") + LENGTH + DONE) + b"0\r\nX-Sum: 1\r\n\r\n"
    assert [read(raw, size).reusable for size in (1, 4, 1000)] == [True, True, True]


def test_an_interim_answer_precedes_the_answer() -> None:
    assert read(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, 11).verdict() == ""


def test_connection_close_is_not_reused() -> None:
    raw = HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + chunk(token("a") + LENGTH + DONE) + END
    assert (read(raw).verdict(), read(raw).reusable) == ("", False)


def lines(*events: str) -> bytes:
    body = "".join(event + "\n" for event in events).encode()
    return HEAD + b"".join(chunk(body[i : i + 13]) for i in range(0, len(body), 13)) + END


def sse(*events: str) -> bytes:
    return HEAD + b"".join(chunk(f"data:{event}\n\n".encode()) for event in events) + END


SAID = '{"message":{"content":"a"},"done":false}'
OVER = '{"message":{"content":""},"done":true,"done_reason":"stop","eval_count":1}'
TGI = '{"token":{"text":"a","special":false},"generated_text":null}'
TGI_OVER = (
    '{"token":{"text":"</s>","special":true},"generated_text":"a","details":{"finish_reason":"eos_token","generated_tokens":2}}'
)
TEXT = '{"choices":[{"text":"a","finish_reason":null}]}'
TEXT_OVER = '{"choices":[{"text":"b","finish_reason":"length"}],"usage":{"completion_tokens":2}}'
OTHERS: dict[str, tuple[str, Callable[..., bytes], list[str], str]] = {
    "ollama": ("ollama", lines, [SAID, OVER], ""),
    "ollama unloaded": ("ollama", lines, [SAID, OVER.replace("stop", "unload")], "bad_finish"),
    "ollama cut": ("ollama", lines, [SAID], "no_done"),
    "ollama error": ("ollama", lines, [SAID, '{"error":"boom"}'], "error_event"),
    "tgi": ("tgi", sse, [TGI, TGI_OVER], ""),
    "tgi broken off": ("tgi", sse, [TGI, TGI_OVER.replace("eos_token", "error")], "bad_finish"),
    "tgi overloaded": ("tgi", sse, ['{"error":"Model is overloaded","error_type":"overloaded"}'], "error_event"),
    "tgi cut": ("tgi", sse, [TGI], "no_done"),
    "completions broken off": ("completions", sse, [TEXT, TEXT_OVER.replace("length", "error"), "[DONE]"], "bad_finish"),
    "completions": ("completions", sse, [TEXT, TEXT_OVER, "[DONE]"], ""),
    "embeddings": ("embeddings", lines, ['{"data":[{"embedding":[0.1,0.2]}]}'], ""),
    "embeddings empty": ("embeddings", lines, ['{"data":[]}'], "empty"),
    "embeddings error": ("embeddings", lines, ['{"error":{"message":"too long"}}'], "error_event"),
}


@pytest.mark.parametrize("size", [1, 10, 1 << 20])
@pytest.mark.parametrize("name", OTHERS)
def test_the_other_engines_are_read_by_their_own_marks(name: str, size: int) -> None:
    api, frame, events, error = OTHERS[name]
    assert read(frame(*events), size, api).verdict() == error


PLAIN = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
BARE = {"object": "error", "message": "boom", "type": "BadRequestError"}


@pytest.mark.parametrize("size", [1, 10, 1 << 20])
@pytest.mark.parametrize("api", ["chat", "completions", "tgi"])
@pytest.mark.parametrize(
    ("said", "error", "note"),
    [
        (json.dumps(BARE), "error_event", "boom"),
        (json.dumps({"error": {"message": "boom"}}, indent=2), "error_event", "boom"),
        (json.dumps({"error": "boom"}), "error_event", "boom"),
        ('{"choices": []}', "empty", '{"choices": []}'),
        ("<html>Welcome</html>", "empty", "<html>Welcome</html>"),
    ],
    ids=["bare", "indented", "text", "no error", "no JSON"],
)
def test_a_document_where_a_stream_was_asked_for_is_read(size: int, api: str, said: str, error: str, note: str) -> None:
    answer = read(PLAIN.format(len(said), said).encode(), size, api)
    assert (answer.complete, answer.verdict(), answer.note()) == (True, error, note)


@pytest.mark.parametrize("api", ["chat", "completions", "ollama", "tgi", "embeddings"])
def test_an_error_object_is_an_error_in_every_shape(api: str) -> None:
    frame = sse if DIALECTS[api].framing == "sse" else lines
    answer = read(frame(json.dumps(BARE)), api=api)
    assert (answer.verdict(), answer.note()) == ("error_event", "boom")


def test_lines_that_are_none_of_a_stream_do_not_undo_its_success() -> None:
    answer = read(HEAD + chunk(b"x-hint: 1\n" + token("a") + LENGTH + DONE) + END)
    assert (answer.verdict(), answer.note()) == ("", "")


def test_the_last_token_and_the_finish_reason_may_share_an_event() -> None:
    answer = read(OTHERS["completions"][1](*OTHERS["completions"][2]), api="completions")
    assert (answer.tokens, answer.finish, answer.usage) == (2, "length", 2)
