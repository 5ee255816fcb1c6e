"""kind and minikube through pytest-kubernetes, with stand-ins on PATH that write down what they were told to do."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_kubernetes.providers import select_provider_manager

from hotfire.errors import BadInput, HarnessError
from hotfire.stand.kubeconfig import private_copy
from hotfire.stand.pytest_kubernetes import honest, provided

MAKER = """#!/bin/sh
echo "$0 $*" >> "$LOG"
case "$*" in
  *broken*) exit 3;;
  *--kubeconfig*) shift_to() { while [ "$1" != --kubeconfig ]; do shift; done; echo made > "$2"; }; shift_to "$@";;
  start*) echo made > "$KUBECONFIG";;
esac
"""
KUBECTL = """#!/bin/sh
echo "$0 $*" >> "$LOG"
for word in "$@"; do
  [ -f "$word" ] && grep -q made "$word" && echo "readyz check passed" && exit 0
done
exit 1
"""
USERS = "apiVersion: v1\nkind: Config\ncurrent-context: prod\ncontexts: [{name: prod, context: {cluster: c, user: u}}]\n"


@dataclass
class Desk:
    """A user's machine: kubeconfig, PATH, and what the tools were told."""

    folder: Path
    kubeconfig: Path

    @property
    def told(self) -> list[str]:
        log = self.folder / "log"
        return [line.removeprefix(f"{self.folder}/bin/") for line in log.read_text().splitlines()] if log.exists() else []

    def makers(self) -> list[str]:
        return [line for line in self.told if not line.startswith("kubectl")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    (tmp_path / "bin").mkdir()
    for name, text in {"kind": MAKER, "minikube": MAKER, "kubectl": KUBECTL}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    made = Desk(tmp_path, tmp_path / "users-config")
    made.kubeconfig.write_text(USERS)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", f"{tmp_path}/log")
    monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
    monkeypatch.setenv("MINIKUBE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_kubernetes.providers.base.sleep", lambda seconds: None)  # a second before each look
    return made


@pytest.mark.parametrize("provider", ["kind", "minikube"])
def test_the_users_kubeconfig_survives(desk: Desk, provider: str) -> None:
    """Nothing is told of it, whether the API answers at first or not, and the environment is as it was."""
    with provided(provider, "mine") as made:
        assert made.kubeconfig.read_text() == "made\n" and made.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert desk.kubeconfig.read_text() == USERS and os.environ["KUBECONFIG"] == str(desk.kubeconfig)
    assert not any("users-config" in line for line in desk.told) and not made.kubeconfig.exists()


def test_only_a_cluster_it_made_is_deleted(desk: Desk) -> None:
    honest(select_provider_manager("kind"))("theirs").delete()
    assert desk.makers() == []
    with pytest.raises(ZeroDivisionError), provided("kind", "mine"):
        raise ZeroDivisionError
    assert [line.split(" --kubeconfig")[0] for line in desk.makers()] == [
        "kind create cluster --name pytest-mine", "kind delete cluster --name pytest-mine",
    ]  # fmt: skip


def test_a_cluster_that_could_not_be_made_is_not_deleted_either(desk: Desk) -> None:
    with pytest.raises(HarnessError, match="kind cannot make the cluster broken: exit code 3"), provided("kind", "broken"):
        pass
    assert not any("delete" in line for line in desk.told)


def test_a_cluster_of_that_name_is_refused_not_adopted(desk: Desk) -> None:
    (desk.folder / "profiles" / "pytest-mine").mkdir(parents=True)
    with pytest.raises(BadInput, match="minikube has a cluster pytest-mine"), provided("minikube", "mine"):
        pass
    assert desk.told == []


def test_an_image_name_is_no_command_of_a_shell(desk: Desk) -> None:
    with provided("kind", "mine") as made:
        made.load_image("a'; touch pwned; $(touch pwned)")
    assert not (desk.folder / "pwned").exists()
    assert "kind load docker-image a'; touch pwned; $(touch pwned) --name pytest-mine" in desk.told


@pytest.fixture
def copy(desk: Desk) -> Iterator[Path]:
    with private_copy(None) as path:
        yield path


def test_a_tool_that_deletes_its_kubeconfig_deletes_a_copy(desk: Desk, copy: Path) -> None:
    """What pytest-kubernetes' external provider does to the file it is given."""
    select_provider_manager("external")("pytest", None, copy).delete()
    assert not copy.exists() and desk.kubeconfig.read_text() == USERS


def test_a_missing_program_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / "bin" / "kubectl").unlink()
    monkeypatch.setenv("PATH", f"{desk.folder}/bin")
    with pytest.raises(BadInput, match="provider kind needs kubectl on PATH"), provided("kind", "mine"):
        pass
