"""The demo's quickest act with the real llama.cpp, on the session's stand: what `make demo` plays three of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotfire import demo
from hotfire.stand.embedded.lifecycle import Running


@pytest.fixture
def stage(embedded: Running) -> Iterator[Running]:
    """The stand; the demo's namespace is gone after it, and the devices of its pods are free."""
    yield embedded
    demo.Observer(embedded).kubectl("delete", "namespace", demo.NAMESPACE, "--timeout=60s")


def test_the_demos_candidate_that_is_oom_killed_at_start_is_rolled_back(stage: Running, tmp_path: Path) -> None:
    said: list[str] = []
    (oom,) = demo.play(stage, ["smollm-oom"], tmp_path, said.append)
    assert oom.right and oom.folder, "\n".join(said)
    assert "OOMKilled" in (oom.folder / "certificate.html").read_text()
    assert any((oom.folder / "allure-results").glob("*-result.json"))
