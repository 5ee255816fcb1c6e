"""TensorRT-LLM's trtllm-serve (facts: runtimes 2 to 6)."""

from hotfire.runtimes.contract import PYTHON_LOGS, Contract, listed_model, logs
from hotfire.runtimes.counters import Counts, Series
from hotfire.runtimes.dialect import OPENAI_CHAT, OPENAI_COMPLETIONS

TRTLLM = Contract(
    name="trtllm",
    title="TensorRT-LLM",
    health="/health",  # refused until the model is loaded; the default host is localhost
    identity="/v1/models",
    served=listed_model,
    identity_proves="the directory name or model string given at start; responses repeat the request's model field",
    dialects={"chat": OPENAI_CHAT, "completions": OPENAI_COMPLETIONS},
    metrics_path="/prometheus/metrics",  # /metrics is JSON
    metrics_need="return_perf_metrics: true, enable_iter_perf_stats: true",
    metrics={
        "request_count": "trtllm_request_success_total",
        "request_latency": "trtllm_e2e_request_latency_seconds",
        "queue_depth": "trtllm_num_requests_waiting",
        "token_throughput": "trtllm_generation_tokens_total",
    },
    counts=Counts(  # no failures
        latency={"ttft": Series("trtllm_time_to_first_token_seconds"), "e2e": Series("trtllm_e2e_request_latency_seconds")},
    ),
    logs=logs(
        startup_begin=r"TensorRT-LLM version: ",
        ready=r"Application startup complete\.",
        engine_dead=r"Failed to initialize executor on rank \d+",
        oom_gpu=(
            r"Executor creation failed due to insufficient GPU memory\.",
            r"Error Code 1: Cuda Runtime \(out of memory\)",
            r"Error Code 2: OutOfMemory \(Requested size was",
            r"CUDA runtime error in ::cudaMallocAsync\(.*\): out of memory",
            r"Error executing load_single_module",
        ),
        kv_cache_too_small=r"The following component could not be created: KV cache",
        unsupported_model=(r"Unknown architecture for AutoModelForCausalLM: ", r"is not supported in TRT-LLM yet"),
        driver_mismatch=r"Failed to deserialize cuda engine",
        gpu_not_visible=r"No GPU devices found on the node",
        port_in_use=r"Failed to bind socket to \S+:\d+",
    )
    + PYTHON_LOGS,
    sources=(
        "NVIDIA/TensorRT-LLM tensorrt_llm/serve/openai_server.py @00057725",
        "tensorrt_llm/commands/serve.py @00209af1, serve/postprocess_handlers.py @01bf1923",
    ),
)
