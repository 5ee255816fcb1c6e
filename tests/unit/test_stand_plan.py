"""The stand's plan, certificates, images and process records: what can be judged without a stand."""

import hashlib
import ipaddress
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from hotfire.errors import BadInput, HarnessError
from hotfire.stand.embedded import build, cgroups, machine, pause, plan
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.pki import Authority
from hotfire.stand.embedded.plan import Stand
from hotfire.stand.embedded.processes import Process

BENCHMARK = ipaddress.ip_network("198.18.0.0/15")  # RFC 2544


@pytest.mark.parametrize("name", ["", "Dev", "a_b", "-a", "sixteen-letters-x", "../x", "a b"])
def test_a_stands_name_is_checked(name: str) -> None:
    with pytest.raises(BadInput, match="name"):
        Stand(name=name)


@pytest.mark.parametrize("count", [0, -1, 17])
def test_the_number_of_devices_is_checked(count: int) -> None:
    with pytest.raises(BadInput, match="gpus-per-node"):
        Stand(gpus_per_node=count)


def test_every_address_is_from_the_range_set_aside_for_benchmarks() -> None:
    networks = [plan.NODE_RANGE, plan.POD_RANGE, plan.SERVICE_RANGE, *(n.pods for n in Stand().nodes)]
    assert all(ipaddress.ip_network(n).subnet_of(BENCHMARK) for n in networks)
    assert all(ipaddress.ip_address(a) in BENCHMARK for a in (plan.CONTROL, plan.API_SERVICE))


def test_no_two_nodes_share_an_address_or_a_pod_range() -> None:
    nodes, pods = Stand().nodes, ipaddress.ip_network(plan.POD_RANGE)
    assert len({n.address for n in nodes}) == len({n.pods for n in nodes}) == 3
    assert all(ipaddress.ip_network(n.pods).subnet_of(pods) for n in nodes)
    assert all(len(n.link) <= 15 for n in nodes)


def test_an_unknown_node_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"no node 'gpu-9'.*gpu-1, gpu-2, cpu-1"):
        Stand().node("gpu-9")


def test_a_binarys_key_changes_with_its_flags_and_with_its_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = next(c for c in build.COMPONENTS if c.name == "cni")
    (tmp_path / "cni").mkdir()
    for file in ("go.mod", "go.sum"):
        (tmp_path / "cni" / file).write_bytes((part.module / file).read_bytes())
    before, part = part.key, replace(part, modules=tmp_path)
    assert part.key == before
    with (tmp_path / "cni" / "go.sum").open("a") as sums:
        sums.write("x\n")
    changed = part.key
    monkeypatch.setitem(build.LDFLAGS, "cni", " -X main.a=b")
    assert len({before, changed, part.key}) == 3


def test_official_binaries_that_are_not_all_there_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "etcd").touch(mode=0o755)
    with pytest.raises(BadInput, match=r"not there: .*kubelet") as refused:
        build.binaries(tmp_path, lambda _: None)
    assert "etcd" not in str(refused.value).partition("not there:")[2]


def test_the_pause_image_is_the_same_bytes_each_time_and_names_its_blobs_by_digest(tmp_path: Path) -> None:
    first, second = (pause.write(tmp_path / name, "x/pause:1", Path(sys.executable).resolve()) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        blobs = [m for m in archive.getmembers() if m.name.startswith("blobs/")]
        digests = [hashlib.sha256(archive.extractfile(m).read()).hexdigest() for m in blobs]
    assert len(blobs) == 3 and digests == [Path(m.name).name for m in blobs]


def test_a_certificate_is_signed_by_its_stands_authority_for_its_user_and_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("kubelet", "system:node:a", "system:nodes", serves=["198.18.0.11", "a"])
    cert, ca = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (pair.cert, authority.file))
    cert.verify_directly_issued_by(ca)
    assert cert.subject.rfc4514_string() == "CN=system:node:a,O=system:nodes"
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a"]
    assert pair.key.stat().st_mode & 0o077 == 0


def test_a_kubeconfig_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    path = authority.kubeconfig(tmp_path / "config", authority.issue("admin", "admin", "system:masters"), "here")
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["clusters"][0]["cluster"]["server"] == "https://198.18.0.1:6443"


def test_a_process_is_alive_until_it_ends_and_a_reused_pid_is_not_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = Process.of(child.pid)
        assert process.alive
        assert not replace(process, start="1").alive
        child.kill()
    assert not process.alive


def test_a_dead_holder_is_known_to_be_dead() -> None:
    holder = machine.Owner(name="gone", phase="starting", pid=os.getpid(), start="1", since="then")
    assert not holder.alive
    assert "'gone' is being started" in str(holder)


def test_the_wait_names_what_did_not_come() -> None:
    with pytest.raises(HarnessError, match=r"the moon: not within 0\.01 s"):
        until("the moon", lambda: False, 0.01, every=0.001)


def test_pods_and_system_have_cpus_of_their_own() -> None:
    system, pods = cgroups.cpus()
    assert pods and system and not set(system) & set(pods)


def test_the_device_plugins_generated_code_is_of_the_committed_interface(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    root = Path(plan.__file__).parents[3]
    proto = "hotfire/stand/embedded/api/deviceplugin.proto"
    argv = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--python_out={tmp_path}", proto]
    subprocess.run(argv, cwd=root, check=True)
    made = (tmp_path / proto).with_name("deviceplugin_pb2.py").read_text()
    assert made == (root / proto).with_name("deviceplugin_pb2.py").read_text()
