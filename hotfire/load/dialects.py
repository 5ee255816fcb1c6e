"""What requests and answers look like, engine by engine: the body to send, and what one event of the answer means.

Success is no error event, a finish reason of an answer that was finished (`abort` and `error` are none) and the end marker
of that API (facts: runtimes 4.1). A token is non-empty
content, reasoning or a tool call, never a role-only chunk; several tokens in one event count as one event.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hotfire.runtimes.dialect import count, failure


@dataclass(slots=True)
class Meaning:
    """What one event said."""

    token: bool = False
    finish: str | None = None
    end: bool = False
    error: str | None = None
    usage: int | None = None


@dataclass(frozen=True)
class Dialect:
    """One API. framing: `sse`, `ndjson` or `json` (one document). plain: an event that this matches, and that no_plain
    does not, is one token and nothing else; every other event goes through `means`, which parses it whole."""

    path: str
    framing: str
    body: Callable[[str, str, int], dict[str, Any]]
    means: Callable[[Any], Meaning]
    plain: re.Pattern[bytes] | None = None
    not_plain: re.Pattern[bytes] | None = None


def _error(data: dict[str, Any]) -> str | None:
    failed = failure(data)
    return None if failed is None else failed.error


def _reason(data: dict[str, Any], key: str = "finish_reason") -> str | None:
    """Raises TypeError for one that is no text."""
    found = data.get(key)
    if not isinstance(found, str | None):
        raise TypeError(f"{key} {found!r}")
    return found


def _openai(data: Any) -> Meaning:
    if data == "[DONE]":
        return Meaning(end=True)
    out = Meaning(error=_error(data), usage=count(data.get("usage"), "completion_tokens"))
    for choice in data.get("choices") or ():
        delta = choice.get("delta") or {}
        said = (choice.get("text"), *(delta.get(key) for key in ("content", "reasoning_content", "reasoning", "tool_calls")))
        out.token |= any(said)
        out.finish = _reason(choice) or out.finish
    return out


def _ollama(data: Any) -> Meaning:
    given = data.get("message")
    message = given if isinstance(given, dict) else {}  # a text in an error of whoever stands before it
    said = (message.get("content"), message.get("thinking"), message.get("tool_calls"), data.get("response"))
    done = data.get("done") is True
    finish = _reason(data, "done_reason") or "stop" if done else None
    return Meaning(any(said), finish, done, _error(data), count(data, "eval_count"))


def _tgi(data: Any) -> Meaning:
    token, details = data.get("token") or {}, data.get("details") or {}
    ended = data.get("generated_text") is not None
    said = bool(token.get("text")) and not token.get("special")
    finish = _reason(details) or "stop" if ended else None
    return Meaning(said, finish, ended, _error(data), count(details, "generated_tokens"))


def _embeddings(data: Any) -> Meaning:
    rows = data.get("data") or []
    found = bool(rows) and all(row.get("embedding") for row in rows)
    return Meaning(found, "stop" if found else None, True, _error(data))


def _openai_body(key: str, wrap: Callable[[str], Any]) -> Callable[[str, str, int], dict[str, Any]]:
    def body(model: str, text: str, max_tokens: int) -> dict[str, Any]:
        shared = {"max_tokens": max_tokens, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        return {"model": model, key: wrap(text), **shared}

    return body


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


_SAID = re.compile(rb'"(?:content|reasoning_content|reasoning|text|response)":\s?"(?!")')  # a key: in a text it is escaped
DIALECTS: dict[str, Dialect] = {
    "chat": Dialect(
        "/v1/chat/completions", "sse", _openai_body("messages", _messages), _openai,
        _SAID, re.compile(rb'"finish_reason":\s?"|"error"|"usage":\s?\{'),
    ),
    "completions": Dialect(
        "/v1/completions", "sse", _openai_body("prompt", str), _openai,
        _SAID, re.compile(rb'"finish_reason":\s?"|"error"|"usage":\s?\{'),
    ),
    "ollama": Dialect(
        "/api/chat", "ndjson",
        lambda model, text, n: {"model": model, "messages": _messages(text), "stream": True,
                                "options": {"num_predict": n, "temperature": 0}},
        _ollama, _SAID, re.compile(rb'"done":\s?true|"error"'),
    ),
    "tgi": Dialect(
        "/generate_stream", "sse",
        lambda model, text, n: {"inputs": text, "parameters": {"max_new_tokens": n, "details": True}},
        _tgi, re.compile(rb'"special":\s?false.*"generated_text":\s?null'), re.compile(rb'"error"|"text":\s?""'),
    ),
    "embeddings": Dialect(
        "/v1/embeddings", "json", lambda model, text, n: {"model": model, "input": text}, _embeddings,
    ),
}  # fmt: skip
