"""Hugging Face Text Generation Inference (facts: runtimes 2 to 6)."""

from typing import Any

from hotfire.runtimes.contract import PYTHON_LOGS, Contract, logs
from hotfire.runtimes.counters import Counts, Series
from hotfire.runtimes.dialect import OPENAI_CHAT, TGI_GENERATE


def _served(answer: Any, asked: str) -> str:
    """GET /info: what was loaded. /v1/models and the response's model field repeat names instead."""
    return str(answer["model_id"])


TGI = Contract(
    name="tgi",
    title="Hugging Face TGI",
    health="/health",  # refused until the router has warmed up
    identity="/info",
    served=_served,
    identity_proves="the model id given at start, with its revision if that was pinned; a request's model field is not checked",
    dialects={"chat": OPENAI_CHAT, "completions": TGI_GENERATE},
    metrics_path="/metrics",
    metrics={
        "request_count": "tgi_request_count",
        "request_latency": "tgi_request_duration",
        "error_rate": "tgi_request_failure",
        "queue_depth": "tgi_queue_size",
        "token_throughput": "tgi_request_generated_tokens",
    },
    counts=Counts(
        requests=Series("tgi_request_count"),
        failed=Series("tgi_request_failure", {"err": "overloaded|generation|incomplete"}),  # others are the client's doing
        latency={"e2e": Series("tgi_request_duration")},
    ),
    logs=logs(
        download_begin=r"Starting check and download process for ",
        download_done=r"Successfully downloaded weights for ",
        download_failed=r"Download encountered an error: ",
        startup_begin=r"Starting shard",
        weights_loading=r"Waiting for shard to be ready\.\.\.",
        weights_loaded=r"Shard ready in (?P<duration>\S+)",
        warmup=r"Warming up model",
        kv_cache_ready=r"Setting max batch total tokens to (?P<tokens>\d+)",
        ready=r"(^|[^\w])Connected\s*$",
        engine_dead=(
            r"Shard \d+ crashed",
            r"Webserver Crashed",
            r"Shard \d+ failed to start",
            r"Shard process was signaled to shutdown with signal (?P<signal>\d+)",
            r"Method \w+ encountered an error\.",
        ),
        kv_cache_too_small=(
            r"Not enough memory to handle \d+ prefill tokens",
            r"Not enough memory to handle `max_total_tokens=\d+`",
        ),
        unsupported_model=r"Unsupported model type ",
        driver_mismatch=r"GPU with CUDA capability .* is not supported",
        gpu_not_visible=r"not enough cuda devices: ",
        port_in_use=r"Failed to bind to \S+: ",
    )
    + PYTHON_LOGS,
    sources=(
        "huggingface/text-generation-inference launcher/src/main.rs @db931fcf (v3.3.7)",
        "router/src/server.rs, router/src/infer/mod.rs, backends/v3/src/backend.rs",
    ),
)
