"""Ollama, over its native API: the only engine here that shows a content digest (facts: runtimes 2 to 6)."""

from typing import Any

from hotfire.runtimes.contract import Contract, logs
from hotfire.runtimes.dialect import OLLAMA_CHAT, OLLAMA_GENERATE


def _served(answer: Any, asked: str) -> str:
    """GET /api/tags lists `name:tag`; a name without a tag means `:latest`."""
    names = [str(item["name"]) for item in answer["models"]]
    return asked if asked in names or f"{asked}:latest" in names else names[0]


OLLAMA = Contract(
    name="ollama",
    title="Ollama",
    health="/",  # 200 without any model: readiness is one real generation
    identity="/api/tags",
    served=_served,
    identity_proves="the name, with the digest of its content beside it; requests for another one get 404",
    dialects={"chat": OLLAMA_CHAT, "completions": OLLAMA_GENERATE},
    embeddings="/v1/embeddings",
    metrics_need="no metrics in v0.33: counted by the harness",
    logs=logs(
        startup_begin=r'msg="server config"',
        http_listening=r"Listening on \S+ \(version (?P<version>[^)]+)\)",
        cpu_fallback=r'msg="inference compute" .*library=cpu',
        weights_loading=(r"loading model via llama-server", r"waiting for llama-server to become available"),
        weights_loaded=r"llama-server started in (?P<seconds>[\d.]+) seconds",
        ready=r'msg="loaded runners" count=(?P<n>\d+)',
        engine_dead=(
            r"error loading llama server",
            r"llama-server process has terminated: ",
            r"model runner has unexpectedly stopped",
        ),
        startup_timeout=r"timed out waiting for llama-server to start",
        oom_gpu=(
            r"llama-server reported out-of-memory during startup: ",
            r"(?i)cudaMalloc failed|out of device memory",
            r"runtime OOM detected",
        ),
        oom_recovered=r"retrying without pipeline parallelism",
        oom_host=r"model is too large for system memory",
        kv_cache_too_small=r"llama-server load failed; reducing automatic context and retrying once",
        unsupported_model=r"this model may be incompatible with your version of Ollama",
        driver_mismatch=r"NVIDIA driver too old",
        gpu_not_visible=r"failure during llama-server GPU discovery|GPU discovery watchdog timed out",
        missing_file=r"not found, try pulling it first",
        download_failed=r"pull model manifest: ",
        hf_auth=r"unauthorized: access denied",
        request_overlong=r"truncating input prompt",
    ),
    sources=(
        "ollama/ollama server/routes.go @fb307609 (v0.33.0-rc2)",
        "server/sched.go, llm/llama_server.go, llm/status.go, discover/runner.go, openai/openai.go",
    ),
)
