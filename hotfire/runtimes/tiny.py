"""tiny: the stand's own SSE server. A twin: it keeps the OpenAI contract and computes nothing, and every output names it so."""

from hotfire.runtimes.contract import Contract, listed_model
from hotfire.runtimes.counters import Counts, Series
from hotfire.runtimes.dialect import OPENAI_CHAT, OPENAI_COMPLETIONS

API = r"/v1/(chat/completions|completions|embeddings)"
TINY = Contract(
    name="tiny",
    title="tiny (twin)",
    twin=True,
    health="/health",
    loading=((503, ""),),
    identity="/v1/models",
    served=listed_model,
    identity_proves="nothing but the name given at start: a twin has no weights",
    dialects={"chat": OPENAI_CHAT, "completions": OPENAI_COMPLETIONS},
    embeddings="/v1/embeddings",
    metrics_path="/metrics",
    metrics={"token_throughput": "tiny_tokens_total"},
    counts=Counts(
        requests=Series("tiny_requests_total", {"path": API}),
        failed=Series("tiny_requests_total", {"path": API, "status": r"5\d\d"}),
        latency={"ttft": Series("tiny_time_to_first_token_seconds"), "e2e": Series("tiny_request_duration_seconds")},
    ),
    sources=("hotfire/stand/embedded/images/tiny",),
)
