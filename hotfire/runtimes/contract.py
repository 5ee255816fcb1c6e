"""The contract of a serving engine: what it answers, when, and what its answers prove. Facts only, each with its source."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hotfire.runtimes.counters import Counts
from hotfire.runtimes.dialect import Dialect

Api = Literal["chat", "completions", "embeddings"]

# Start-up phases in the order in which an engine goes through them; an engine logs some of them.
PHASES = (
    "startup_begin", "http_listening", "download_begin", "download_done", "weights_loading", "weights_loaded",
    "kv_cache_ready", "compile_or_graph", "warmup", "ready",
)  # fmt: skip
# Several fatal classes match within one start-up: the first of these is the root cause (facts: runtimes.yaml, derived).
FATAL = (
    "hf_auth", "port_in_use", "driver_mismatch", "gpu_not_visible", "unsupported_model", "kv_cache_too_small", "oom_gpu",
    "oom_host", "nccl_failure", "download_failed", "missing_file", "startup_timeout", "engine_dead",
)  # fmt: skip
SILENT = ("cpu_fallback", "request_overlong")  # serving goes on, and a certification must not


@dataclass(frozen=True)
class Signature:
    """A log line that means something. kind: one of PHASES, FATAL, SILENT; searched, not anchored."""

    kind: str
    pattern: str

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern)


def logs(**patterns: str | tuple[str, ...]) -> tuple[Signature, ...]:
    """Signatures by kind."""
    return tuple(
        Signature(kind, pattern)
        for kind, given in patterns.items()
        for pattern in ((given,) if isinstance(given, str) else given)
    )


@dataclass(frozen=True)
class Contract:
    """One engine. counts: what it counts of all requests, whoever sent them; None: nothing that tells good from bad.

    loading: (status, text in the body) of answers that mean "still loading"; a refused connection means so for every
    engine (facts: runtimes 1.1), bounded by the start budget. served: the model's name in the identity answer, given what
    was asked for; KeyError, IndexError, TypeError if the answer has another shape. embeddings: path of the API, or "".
    """

    name: str
    title: str
    health: str
    identity: str
    served: Callable[[Any, str], str]
    identity_proves: str
    dialects: Mapping[str, Dialect]
    sources: tuple[str, ...]
    embeddings: str = ""
    loading: tuple[tuple[int, str], ...] = ()
    twin: bool = False
    metrics_path: str = ""
    metrics_need: str = ""
    metrics: Mapping[str, str] = field(default_factory=dict)
    counts: Counts | None = None
    logs: tuple[Signature, ...] = ()

    def dialect(self, api: str) -> Dialect | None:
        """How this engine is asked over an api; None for embeddings and for what it does not serve."""
        return self.dialects.get(api)

    def serves(self, api: str) -> bool:
        return api in self.dialects or (api == "embeddings" and bool(self.embeddings))

    def kinds_of(self, line: str) -> tuple[str, ...]:
        """What a log line means, in the order of the signatures; empty for most lines."""
        return tuple(signature.kind for signature in self.logs if signature.regex.search(line))

    def root_cause(self, text: str) -> tuple[str, str] | None:
        """(kind, line) of the most telling fatal line of a log, or None. An out-of-memory that was retried is not fatal."""
        found: dict[str, str] = {}
        for line in text.splitlines():
            kinds = self.kinds_of(line)
            if "oom_recovered" in kinds:
                found.pop("oom_gpu", None)
            for kind in kinds:
                found.setdefault(kind, line.strip())
        return next(((kind, found[kind]) for kind in FATAL if kind in found), None)


def listed_model(answer: Any, asked: str) -> str:
    """GET /v1/models: the asked name if it is listed, else the first one that is."""
    names = [str(item["id"]) for item in answer["data"]]
    return asked if asked in names else names[0]


# What Python engines share through huggingface_hub, torch and uvicorn (facts: runtimes 6).
PYTHON_LOGS = logs(
    hf_auth=(
        r"You are trying to access a gated repo", r"Cannot access gated repo for url", r"GatedRepoError",
        r"Client error '401 Unauthorized' for url", r"401 Client Error", r"Invalid credentials in Authorization header",
        r"403 Client Error: Forbidden for url: https://huggingface", r"Access to model \S+ is restricted",
        r"Repo model \S+ is gated",
    ),
    oom_gpu=(r"torch\.(cuda\.)?OutOfMemoryError", r"CUDA out of memory\. Tried to allocate", r"CUDA error: out of memory"),
    gpu_not_visible=(
        r"No CUDA GPUs are available", r"libcuda\.so\.1: cannot open shared object file", r"NVML Shared Library Not Found",
    ),
    nccl_failure=(r"NCCL error", r"NCCL WARN"),
)  # fmt: skip
