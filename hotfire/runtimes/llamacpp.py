"""llama.cpp's llama-server (facts: runtimes 2 to 6, read as single files: ggml-org/llama.cpp tools/server)."""

from hotfire.runtimes.contract import Contract, listed_model, logs
from hotfire.runtimes.dialect import OPENAI_CHAT, OPENAI_COMPLETIONS

LLAMACPP = Contract(
    name="llamacpp",
    title="llama.cpp",
    health="/health",
    loading=((503, "Loading model"),),  # on every route, before the api-key check; refused while -hf downloads
    identity="/v1/models",
    served=listed_model,
    identity_proves="the alias or file name given at start; the model field of a request is ignored",
    dialects={"chat": OPENAI_CHAT, "completions": OPENAI_COMPLETIONS},
    embeddings="/v1/embeddings",
    metrics_path="/metrics",
    metrics_need="--metrics",
    metrics={"queue_depth": "llamacpp:requests_deferred", "token_throughput": "llamacpp:tokens_predicted_total"},
    logs=logs(
        http_listening=r"server is listening on http",  # before the model is loaded: never readiness
        weights_loading=(r"load_tensors: loading model tensors", r"load_tensors: offloaded (?P<n>\d+)/(?P<total>\d+) layers"),
        ready=r"model loaded",
        cpu_fallback=(r"offloaded 0/\d+ layers to GPU", r"no usable GPU found"),
        gpu_not_visible=r"ggml_cuda_init: failed to initialize CUDA: ",
        driver_mismatch=r"failed to initialize CUDA: (CUDA driver version is insufficient|forward compatibility was attempted)",
        oom_gpu=(
            r"allocating [\d.]+ MiB on device \d+: cudaMalloc failed: out of memory",
            r"failed to allocate CUDA\d+ buffer of size",
            r"unable to allocate CUDA\d+ buffer",
            r"CUDA error: out of memory",
        ),
        oom_recovered=r"retrying without pipeline parallelism",
        unsupported_model=r"unknown model architecture: '[^']+'",
        missing_file=r"failed to load model",
        hf_auth=r"error: model is private or does not exist; if you are accessing a gated model",
        download_failed=r"error from HF API \(|error: failed to get manifest ",
        engine_dead=r"exiting due to model loading error",
        port_in_use=(r"couldn't bind HTTP server socket, hostname: ", r"exiting due to HTTP server error"),
    ),
    sources=(
        "ggml-org/llama.cpp tools/server/server.cpp @00dd0816",
        "tools/server/server-http.cpp, server-task.cpp, common/download.cpp",
        "tools/server/README.md @00dc8057",
    ),
)
