"""kind, k3d and minikube through pytest-kubernetes, with stand-ins on PATH that write down what they were told to do."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pytest_kubernetes.options import ClusterOptions
from pytest_kubernetes.providers import base as providers
from pytest_kubernetes.providers import select_provider_manager

from hotfire.cli import main
from hotfire.errors import BadInput, HarnessError
from hotfire.stand.embedded import lifecycle, machine
from hotfire.stand.embedded import plan as embedded_plan
from hotfire.stand.embedded.manager import EmbeddedManager
from hotfire.stand.embedded.plan import Stand
from hotfire.stand.pytest_kubernetes import honest, provided
from hotfire.words import Provider

MAKER = """#!/bin/sh
echo "$0 $*" >> "$LOG"
case "$*" in
  --version) echo "k3d version v5.8.3";;
  *broken*) exit 3;;
  "kubeconfig get pytest-halfway") exit 4;;
  "kubeconfig get "*) echo made;;
  *'--kubeconfig '*) shift_to() { while [ "$1" != --kubeconfig ]; do shift; done; rm "$2"; echo made > "$2"; }; shift_to "$@";;
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
        return [line for line in self.told if not line.startswith("kubectl") and not line.endswith("--version")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    (tmp_path / "bin").mkdir()
    for name, text in {"kind": MAKER, "k3d": MAKER, "minikube": MAKER, "kubectl": KUBECTL}.items():
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


TOLD = {  # provider -> how it makes a cluster, puts an image onto its nodes and deletes it again
    "kind": (
        "create cluster --name pytest-mine",
        "load docker-image {} --name pytest-mine",
        "delete cluster --name pytest-mine",
    ),
    "k3d": ("cluster create pytest-mine", "image import {} --cluster pytest-mine", "cluster delete pytest-mine"),
    "minikube": ("start -p pytest-mine", "image load {} -p pytest-mine", "delete -p pytest-mine"),
}


def test_every_provider_is_tried() -> None:
    assert [*TOLD] == [*Provider]


@pytest.mark.parametrize("provider", TOLD)
def test_the_users_kubeconfig_survives(desk: Desk, provider: str) -> None:
    """Nothing is told of it, whether the API answers at first or not, and the environment is as it was."""
    with provided(provider, "mine") as made:
        assert made.kubeconfig.read_text() == "made\n" and made.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert desk.kubeconfig.read_text() == USERS and os.environ["KUBECONFIG"] == str(desk.kubeconfig)
    assert not any("users-config" in line for line in desk.told) and not made.kubeconfig.exists()


@pytest.mark.parametrize("provider", TOLD)
def test_only_a_cluster_it_made_is_deleted(desk: Desk, provider: str) -> None:
    honest(select_provider_manager(provider))("theirs").delete()
    assert desk.makers() == []
    with pytest.raises(ZeroDivisionError), provided(provider, "mine"):
        raise ZeroDivisionError
    made, _, deleted = (f"{provider} {line}" for line in TOLD[provider])
    assert desk.makers()[0].startswith(f"{made} ") and desk.makers()[-1] == deleted
    assert len(desk.makers()) == (3 if provider == "k3d" else 2)  # k3d hands its kubeconfig out by a command of its own


@pytest.mark.parametrize("provider", TOLD)
def test_a_cluster_that_could_not_be_made_is_not_deleted_either(desk: Desk, provider: str) -> None:
    said = f"{provider} cannot make the cluster broken: exit code 3"
    with pytest.raises(HarnessError, match=said), provided(provider, "broken"):
        pass
    assert not any("delete" in line for line in desk.told)


def test_a_cluster_whose_kubeconfig_cannot_be_had_is_deleted(desk: Desk) -> None:
    with pytest.raises(HarnessError, match="k3d cannot make the cluster halfway: exit code 4"), provided("k3d", "halfway"):
        pass
    assert desk.makers()[-1] == "k3d cluster delete pytest-halfway"


def test_a_cluster_of_that_name_is_refused_not_adopted(desk: Desk) -> None:
    (desk.folder / "profiles" / "pytest-mine").mkdir(parents=True)
    with pytest.raises(BadInput, match="minikube has a cluster pytest-mine"), provided("minikube", "mine"):
        pass
    assert desk.told == []


@pytest.mark.parametrize("provider", TOLD)
def test_an_image_name_is_no_command_of_a_shell(desk: Desk, provider: str) -> None:
    name = "a'; touch pwned; $(touch pwned)"
    with provided(provider, "mine") as made:
        made.load_image(name)
    assert not (desk.folder / "pwned").exists()
    assert f"{provider} {TOLD[provider][1].format(name)}" in desk.told


def external(desk: Desk) -> Any:
    """pytest-kubernetes' manager of a cluster of the user's, as it would be used here."""
    return honest(select_provider_manager("external"))("mine", None, desk.kubeconfig)


def test_a_kubeconfig_that_was_given_is_not_deleted(desk: Desk) -> None:
    """What pytest-kubernetes' own does when nobody called create; and `external` is no provider of a run."""
    external(desk).delete()
    assert desk.kubeconfig.read_text() == USERS
    with pytest.raises(BadInput, match="provider 'external': kind, k3d, minikube"), provided("external", "mine"):
        pass
    assert desk.told == []


def test_a_kubeconfig_that_was_given_is_not_deleted_when_its_cluster_was_silent(desk: Desk) -> None:
    manager = external(desk)
    with pytest.raises(RuntimeError, match="is not ready"):
        manager.create(timeout=1)
    manager.delete()
    assert desk.kubeconfig.read_text() == USERS


@pytest.mark.parametrize("given", [("--kubeconfig", "users-config"), ("--context", "prod")])
def test_a_provider_beside_a_cluster_of_the_users_is_refused(desk: Desk, given: tuple[str, str]) -> None:
    ended = CliRunner().invoke(main, ["run", "scenario.yaml", "--provider", "kind", *given])
    said = "--provider makes a cluster of its own: not with --kubeconfig or --context\n"
    assert (ended.exit_code, ended.stderr, ended.stdout) == (4, said, "")
    assert desk.told == [] and desk.kubeconfig.read_text() == USERS


def not_called(*arguments: object, **options: object) -> None:
    raise AssertionError(f"called with {arguments}")


def test_a_stand_that_is_up_is_used_at_once_and_left_running(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `hotfire stand up` made outlives the session, and pytest-kubernetes sleeps no second before it looks at it."""
    stand = Stand(name="pytest-hotfire")
    for what, name, instead in (
        (embedded_plan, "RUN", desk.folder), (machine, "check", lambda: None),
        (lifecycle, "status", lambda stand: SimpleNamespace(phase="up", nodes={"gpu-1": True})),
        (lifecycle, "up", not_called), (lifecycle, "down", not_called), (providers, "sleep", not_called),
    ):  # fmt: skip
        monkeypatch.setattr(what, name, instead)
    stand.state.mkdir()
    stand.kubeconfig.write_text(USERS)
    EmbeddedManager("hotfire").delete()  # nobody called create
    manager = EmbeddedManager("hotfire")
    manager.create(ClusterOptions(kubeconfig_path=desk.folder / "given"))
    assert (desk.folder / "given").read_text() == USERS
    manager.delete()
    assert stand.kubeconfig.read_text() == USERS


def test_a_missing_program_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / "bin" / "kubectl").unlink()
    monkeypatch.setenv("PATH", f"{desk.folder}/bin")
    with pytest.raises(BadInput, match="provider kind needs kubectl on PATH"), provided("kind", "mine"):
        pass
