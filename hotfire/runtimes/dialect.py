"""How an API is asked and how its answer is read. Pure: no network, so that client and load share it.

HTTP 200 is not success for a stream (facts: runtimes 1.2): vLLM, TGI and llama.cpp put errors inside it, some send the end
marker after one, TensorRT-LLM and Ollama just end. Success is: no error event, a finish reason, and the end marker.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

FINISHED = frozenset({"stop", "length", "eos_token", "stop_sequence", "tool_calls"})
MOST_TOKENS = 1 << 53  # what any of our figures can hold


@dataclass(frozen=True)
class Piece:
    """What one event of a stream (or one whole answer) said. tokens: completion tokens, where the server counted them."""

    text: str = ""
    finish_reason: str | None = None
    tokens: int | None = None
    error: str = ""
    end: bool = False


class Dialect(ABC):
    """One request format with its answer: stateless."""

    name: ClassVar[str]
    path: ClassVar[str]
    framing: ClassVar[str] = "sse"
    end_marker: ClassVar[str] = "data: [DONE]"

    @abstractmethod
    def body(self, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
        """The JSON to POST; greedy, so that equal prompts may be compared."""

    @abstractmethod
    def read(self, data: dict[str, Any]) -> Piece:
        """One event's JSON, or a whole answer's: never raises, a wrong shape is an error in the Piece."""

    @property
    def whole_path(self) -> str:
        """Where an answer that is not streamed is asked for."""
        return self.path

    def whole(self, raw: bytes) -> Piece:
        """An answer that is not streamed; its body is complete, so it has ended."""
        piece = self._event(raw.decode("utf-8", errors="replace"))
        if not piece.error and piece.finish_reason is None:
            return replace(piece, error="the answer has no finish reason")
        return replace(piece, end=True)

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[Piece]:
        """The body of a stream as pieces, in order; bytes that are no event of this framing are an error."""
        for line in lines(chunks):
            if self.framing == "sse":
                field, _, value = line.partition(":")
                if not line or not field:  # the blank line that ends an event, or a comment used as keep-alive
                    continue
                if field == "data":
                    yield self._event(value.removeprefix(" "))
                elif field == "error":  # older llama.cpp
                    yield Piece(error=value.strip() or "an error event without text")
                elif field not in ("event", "id", "retry"):
                    yield Piece(error=f"{line[:80]!r} is no line of an event stream")
            elif line:
                yield self._event(line)

    def _event(self, text: str) -> Piece:
        if text.strip() == "[DONE]" and self.end_marker.endswith("[DONE]"):
            return Piece(end=True)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return Piece(error=f"{text[:80]!r} is not JSON")
        if not isinstance(data, dict):
            return Piece(error=f"{text[:80]!r} is no JSON object")
        return failure(data) or self.read(data)


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines split at LF alone: JSON may hold U+2028 or U+0085 raw, which text splitters take for line ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", errors="replace")
    if rest:
        yield rest.decode("utf-8", errors="replace")


def failure(data: dict[str, Any]) -> Piece | None:
    """An error object in any of the shapes the runtimes use (facts: runtimes 4.2)."""
    error = data.get("error")
    if error is None and data.get("object") == "error":
        error = data.get("message") or "an error object without a message"
    if error is None:
        return None
    said = error.get("message") if isinstance(error, dict) else error
    return Piece(error=str(said or error))


def _wrong_shape(data: object) -> Piece:
    return Piece(error=f"{json.dumps(data)[:120]} has not the shape of an answer")


def count(usage: object, key: str) -> int | None:
    """A number of tokens as a server says it; None for anything else."""
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value < MOST_TOKENS else None


class OpenAIChat(Dialect):
    """POST /v1/chat/completions."""

    name = "openai-chat"
    path = "/v1/chat/completions"

    def body(self, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
        asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
        return _openai(model, stream) | asked

    def read(self, data: dict[str, Any]) -> Piece:
        return _choice(data, lambda choice: (choice.get("delta") or choice.get("message") or {}).get("content"))


class OpenAICompletions(Dialect):
    """POST /v1/completions."""

    name = "openai-completions"
    path = "/v1/completions"

    def body(self, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
        return _openai(model, stream) | {"prompt": prompt, "max_tokens": max_tokens}

    def read(self, data: dict[str, Any]) -> Piece:
        return _choice(data, lambda choice: choice.get("text"))


def _openai(model: str, stream: bool) -> dict[str, Any]:
    options = {"stream_options": {"include_usage": True}} if stream else {}
    return {"model": model, "temperature": 0, "seed": 42, "stream": stream, **options}


def _choice(data: dict[str, Any], content: Any) -> Piece:
    choices, tokens = data.get("choices"), count(data.get("usage"), "completion_tokens")
    if choices == []:  # the usage chunk
        return Piece(tokens=tokens)
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        return _wrong_shape(data)
    try:
        text = content(choices[0])
    except AttributeError:
        return _wrong_shape(data)
    return _finish(str(text or ""), choices[0].get("finish_reason"), tokens)


def _finish(text: str, reason: object, tokens: int | None, end: bool = False) -> Piece:
    if reason in (None, ""):
        return Piece(text, None, tokens, end=end)
    error = "" if reason in FINISHED else f"finish reason {reason!r}"  # vLLM says abort, others error
    return Piece(text, str(reason), tokens, error, end)


class OllamaChat(Dialect):
    """POST /api/chat: newline-delimited JSON, whose last object says done."""

    name = "ollama-chat"
    path = "/api/chat"
    framing = "ndjson"
    end_marker = '"done": true'

    def body(self, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
        return _ollama(model, max_tokens, stream) | {"messages": [{"role": "user", "content": prompt}]}

    def read(self, data: dict[str, Any]) -> Piece:
        message = data.get("message")
        return _done(data, message.get("content") if isinstance(message, dict) else None)


class OllamaGenerate(OllamaChat):
    """POST /api/generate."""

    name = "ollama-generate"
    path = "/api/generate"

    def body(self, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
        return _ollama(model, max_tokens, stream) | {"prompt": prompt}

    def read(self, data: dict[str, Any]) -> Piece:
        return _done(data, data.get("response"))


def _ollama(model: str, max_tokens: int, stream: bool) -> dict[str, Any]:
    return {"model": model, "stream": stream, "options": {"num_predict": max_tokens, "temperature": 0, "seed": 42}}


def _done(data: dict[str, Any], text: object) -> Piece:
    if not isinstance(text, str) or not isinstance(data.get("done"), bool):
        return _wrong_shape(data)
    if not data["done"]:
        return Piece(text)
    return _finish(text, data.get("done_reason"), count(data, "eval_count"), end=True)


class TgiGenerate(Dialect):
    """POST /generate_stream: no end marker of its own, the last event carries generated_text and details."""

    name = "tgi"
    path = "/generate_stream"
    end_marker = "generated_text"

    @property
    def whole_path(self) -> str:
        return "/generate"

    def body(self, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
        return {"inputs": prompt, "parameters": {"max_new_tokens": max_tokens, "do_sample": False, "details": True}}

    def read(self, data: dict[str, Any]) -> Piece:
        token, details = data.get("token"), data.get("details")
        if token is None and isinstance(data.get("generated_text"), str) and isinstance(details, dict):  # not streamed
            return _finish(data["generated_text"], details.get("finish_reason"), count(details, "generated_tokens"), end=True)
        if not isinstance(token, dict) or not isinstance(token.get("text"), str):
            return _wrong_shape(data)
        text = "" if token.get("special") else token["text"]
        if not isinstance(data.get("generated_text"), str):
            return Piece(text)
        reason = details.get("finish_reason") if isinstance(details, dict) else None
        return _finish(text, reason, count(details, "generated_tokens"), end=True)


OPENAI_CHAT, OPENAI_COMPLETIONS = OpenAIChat(), OpenAICompletions()
OLLAMA_CHAT, OLLAMA_GENERATE, TGI_GENERATE = OllamaChat(), OllamaGenerate(), TgiGenerate()
