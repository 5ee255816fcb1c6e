"""vLLM's OpenAI server (facts: runtimes 2 to 6)."""

from hotfire.runtimes.contract import PYTHON_LOGS, Contract, listed_model, logs
from hotfire.runtimes.counters import Counts, Series
from hotfire.runtimes.dialect import OPENAI_CHAT, OPENAI_COMPLETIONS

API = r"/v1/(chat/completions|completions|embeddings)"
VLLM = Contract(
    name="vllm",
    title="vLLM",
    health="/health",  # refused until the engine is ready: the socket is bound but does not listen
    identity="/v1/models",
    served=listed_model,
    identity_proves="the served name, and requests for another one get 404; not the weights behind it",
    dialects={"chat": OPENAI_CHAT, "completions": OPENAI_COMPLETIONS},
    embeddings="/v1/embeddings",
    metrics_path="/metrics",
    metrics={
        "request_count": "vllm:request_success_total",
        "request_latency": "vllm:e2e_request_latency_seconds",
        "error_rate": "http_requests_total",
        "queue_depth": "vllm:num_requests_waiting",
        "token_throughput": "vllm:generation_tokens_total",
    },
    counts=Counts(
        requests=Series("http_requests_total", {"handler": API}),
        failed=Series("http_requests_total", {"handler": API, "status": "5xx"}),  # before PR 44303 4xx, too
        latency={"ttft": Series("vllm:time_to_first_token_seconds"), "e2e": Series("vllm:e2e_request_latency_seconds")},
    ),
    logs=logs(
        startup_begin=(r"vLLM (API )?server version", r"Initializing a V1 LLM engine"),
        weights_loading=(r"Starting to load model", r"Loading safetensors checkpoint shards:\s+\d+% Completed"),
        weights_loaded=(
            r"Loading weights took (?P<seconds>[\d.]+) seconds",
            r"Model loading took (?P<gib>[\d.]+) GiB( memory)? and (?P<seconds>[\d.]+) seconds",
        ),
        kv_cache_ready=(r"GPU KV cache size: [\d,]+ tokens", r"Available KV cache memory: [\d.]+ GiB"),
        compile_or_graph=(r"torch\.compile takes", r"Graph capturing finished in (?P<seconds>\d+) secs"),
        warmup=r"init engine \(profile, create kv cache, warmup model\) took (?P<seconds>[\d.]+) seconds",
        ready=(r"Starting vLLM (API )?server( \d+)? on http", r"Application startup complete\."),
        engine_dead=(
            r"EngineCore failed to start\.",
            r"Engine core initialization failed\. See root cause above\.",
            r"WorkerProc hit an exception\.",
            r"EngineDeadError",
        ),
        oom_gpu=(
            r"CUDA out of memory occurred when warming up sampler with \d+ dummy requests",
            r"Free memory on device \S+ \([\d.]+/[\d.]+ GiB\) on startup is less than desired GPU memory utilization",
        ),
        kv_cache_too_small=(
            r"No available memory for the cache blocks\.",
            r"To serve at least one request with the model's max seq len \(\d+\)",
            r"max seq len \(\d+\) is larger than the maximum number of tokens that can be stored in KV cache",
        ),
        unsupported_model=(
            r"Model architectures .* are not supported for now\.",
            r"failed to be inspected",
            r"was supported in vLLM until v",
        ),
        gpu_not_visible=(
            r"Failed to infer device type",
            r"Device string must not be empty",
            r"No platform detected, vLLM is running on UnspecifiedPlatform",
        ),
        port_in_use=r"OSError: \[Errno 98\] Address already in use",
        startup_timeout=r"KeyboardInterrupt: terminated",  # SIGTERM while loading: a startup probe's kill
    )
    + PYTHON_LOGS,
    sources=(
        "vllm-project/vllm vllm/entrypoints/openai/api_server.py @0001948b",
        "health.py @98b137c6, metrics.py @ef0feb37, models/serving @00153c8b, entrypoints/utils.py @00fc8809",
        "docs.vllm.ai v0.18.0 cli/serve",
    ),
)
