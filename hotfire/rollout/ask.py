"""Ask what serves from any machine that reaches the API server: through its proxy to the Service. For a dead run's journal,
which cannot know how requests reached the candidate. A living run asks as its users do."""

import json
from collections.abc import Callable

from hotfire.errors import Breach
from hotfire.journal.entries import Asked
from hotfire.journal.journal import Journal
from hotfire.kube.client import ApiError, Ref
from hotfire.runtimes import contract_of

PROMPT, TOKENS, PATIENCE_S = "Say hello.", 4, 30.0


def through_api_server(journal: Journal) -> Callable[[], str]:
    """A probe that asks every API the run names for one whole answer; raises Breach with the first that fails."""
    return lambda: "; ".join(_ask(journal, one) for one in journal.body.serves)


def _ask(journal: Journal, one: Asked) -> str:
    contract, namespace = contract_of(one.runtime), journal.body.namespace
    dialect = contract.dialect(one.api)
    path = dialect.whole_path if dialect else contract.embeddings
    body = dialect.body(one.model, PROMPT, TOKENS, False) if dialect else {"model": one.model, "input": [PROMPT]}
    try:
        port = one.port or _only_port(journal, one)
        url = f"/api/v1/namespaces/{namespace}/services/{one.service}:{port}/proxy{path}"
        answer = journal.cluster.raw("POST", url, body, timeout=PATIENCE_S, what=f"ask {one.service}")
    except ApiError as error:
        raise Breach(f"{one.service} does not answer through the API server: {error.message}") from None
    if dialect is None:
        if not (answer.get("data") or [{}])[0].get("embedding"):
            raise Breach(f"{one.service} answers without an embedding")
        return f"{one.service} embeds"
    piece = dialect.whole(json.dumps(answer).encode())
    if piece.error or not piece.text:
        raise Breach(f"{one.service} answers {piece.error or 'without a token'}")
    return f"{one.service} answers {piece.text[:40]!r}"


def _only_port(journal: Journal, one: Asked) -> int:
    service = journal.cluster.get(Ref("v1", "Service", journal.body.namespace, one.service))
    return int(service["spec"]["ports"][0]["port"])
