"""What a machine that cannot run the stand is told, before anything is installed, built or started: one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hotfire.stand.embedded import machine

PACKAGES = ["sh", str(machine.CHECK.with_name("packages.sh"))]  # `make demo` and `make test` begin with it
STAND = [sys.executable, "-m", "hotfire.stand.commands"]
BEFORE = pytest.mark.parametrize(("argv", "code"), [(PACKAGES, 1), ([*STAND, "build"], 4)], ids=["packages", "build"])
LACKING = {
    "not Linux": ("uname", "Darwin", "Linux (this is Darwin)"),
    "not root": ("id", "1000", "root"),
    "one CPU": ("nproc", "1", "2 CPUs"),
}
NO_CGROUPS = ["unshare", "--mount", "sh", "-c", 'umount -lR /sys/fs/cgroup && exec "$@"', "sh"]


def told(argv: list[str], path: str = os.environ["PATH"], **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    environment = {**os.environ, "PATH": path, **environment}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr


def line(needs: str) -> str:
    instead = "use your own cluster (--kubeconfig) or kind, k3d or minikube through pytest-kubernetes (--provider)"
    return f"the embedded stand cannot run here: needs {needs}. Instead, {instead}\n"


@BEFORE
@pytest.mark.parametrize("lacking", LACKING)
def test_a_machine_that_cannot_run_the_stand_is_told_what_it_lacks(
    argv: list[str], code: int, lacking: str, tmp_path: Path
) -> None:
    program, says, needs = LACKING[lacking]
    (tmp_path / program).write_text(f"#!/bin/sh\necho {says}\n")
    (tmp_path / program).chmod(0o755)
    assert told(argv, path=f"{tmp_path}{os.pathsep}{os.environ['PATH']}") == (code, "", line(needs))


@BEFORE
def test_a_machine_without_cgroups_is_told_which_controllers_it_lacks(argv: list[str], code: int) -> None:
    assert told([*NO_CGROUPS, *argv]) == (code, "", line("cgroup controllers cpu, cpuset, memory, pids, writable"))


def test_a_user_without_root_is_told_so_by_up() -> None:
    assert told(["unshare", "--user", *STAND, "up"]) == (4, "", line("root"))


def test_a_machine_without_apt_is_told_the_packages_and_what_to_use_instead(tmp_path: Path) -> None:
    for program in ("sh", "dirname", "cat", "grep", "uname", "id", "nproc"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    needs = f"Debian packages {' '.join(machine.DEBIAN_PACKAGES)} (there is no apt-get)"
    assert told(PACKAGES, path=str(tmp_path)) == (1, "", line(needs))


def test_the_number_of_threads_that_a_user_asks_of_others_is_not_the_number_of_cpus() -> None:
    assert told(["sh", str(machine.CHECK)], OMP_NUM_THREADS="1") == (0, "", "")
