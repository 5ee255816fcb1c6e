"""The command line alone, without a cluster."""

import pytest
from click.testing import CliRunner

from hotfire.cli import main


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "scenario.yaml", "--provider", "docker"), "'kind', 'k3d', 'minikube'"),
        (("run", "scenario.yaml", "--load-image", "tiny:1"), "only with --provider"),
        (("abort", "--no-such-option"), "--no-such-option"),
        (("abort",), "--namespace: missing"),
        (("resume",), "--namespace: missing"),
        (("settle", "nowhere"), "no record.jsonl in it"),
        (("verify", "nowhere"), "no armed.json in it, the folder that `hotfire arm` named is expected"),
        (("sweep", "--older-than", "1"), "--older-than: 1 is not a duration"),
        (("demo", "--only", "sound"), "--only sound: one of smollm-sound, smollm-slow, smollm-oom is expected"),
    ],
)
def test_a_wrong_option_is_bad_input_in_one_line(words: tuple[str, ...], says: str) -> None:
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 4 and says in found.stderr and len(found.stderr.splitlines()) == 1
