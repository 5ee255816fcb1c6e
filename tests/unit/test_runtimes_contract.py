"""The contracts against the log lines they were read from (facts: runtimes.yaml)."""

import json
from pathlib import Path

import pytest

from hotfire.runtimes import CONTRACTS, contract_of
from hotfire.runtimes.contract import FATAL, PHASES, SILENT

LINES: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("runtime_log_lines.json").read_text())
EXAMPLES = [(name, kind, line) for name, kinds in LINES.items() for kind, lines in kinds.items() for line in lines]


@pytest.mark.parametrize(("name", "kind", "line"), EXAMPLES)
def test_a_log_line_means_what_the_facts_say(name: str, kind: str, line: str) -> None:
    assert kind in contract_of(name).kinds_of(line)


@pytest.mark.parametrize("name", LINES)
def test_every_signature_has_a_line_it_was_read_from(name: str) -> None:
    lines = [line for lines in LINES[name].values() for line in lines]
    unread = [sign.pattern for sign in contract_of(name).logs if not any(sign.regex.search(line) for line in lines)]
    assert unread == []


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_signatures_are_of_known_kinds_and_every_contract_has_sources(contract) -> None:  # type: ignore[no-untyped-def]
    assert {sign.kind for sign in contract.logs} <= {*PHASES, *FATAL, *SILENT, "oom_recovered"}
    assert contract.sources and contract.identity_proves
    assert contract.serves("chat") and contract.dialect("embeddings") is None


def test_listening_is_not_readiness_for_llama_cpp() -> None:
    kinds = contract_of("llamacpp").kinds_of("main: server is listening on http://0.0.0.0:8080")
    assert kinds == ("http_listening",)


def test_the_root_cause_is_the_most_telling_line_and_not_the_last() -> None:
    log = "CUDA out of memory. Tried to allocate 2 GiB\nYou are trying to access a gated repo.\nEngineCore failed to start.\n"
    assert contract_of("vllm").root_cause(log) == ("hf_auth", "You are trying to access a gated repo.")
    assert contract_of("vllm").root_cause("INFO: all is well") is None


def test_an_out_of_memory_that_was_retried_is_no_root_cause() -> None:
    log = "allocating 5.00 MiB on device 0: cudaMalloc failed: out of memory\nretrying without pipeline parallelism\n"
    assert contract_of("llamacpp").root_cause(log) is None


def test_only_the_stands_own_server_is_a_twin() -> None:
    assert [contract.name for contract in CONTRACTS.values() if contract.twin] == ["tiny"]
