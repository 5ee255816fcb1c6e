"""Images as files and on their way to a registry. The registry here is a small one that counts what it is sent."""

import base64
import gzip
import hashlib
import json
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hotfire.errors import BadInput, HarnessError
from hotfire.scenario.images import DIGEST
from hotfire.stand import images
from hotfire.stand.embedded import oci, pause
from hotfire.stand.embedded.lifecycle import Registry

SETTINGS = {"Entrypoint": ["/app"], "User": "1000:1000"}
PASSWORD = "pass-word-never-shown"


class FakeRegistry(ThreadingHTTPServer):
    """The distribution protocol in memory: repository -> digest -> blob, and what was uploaded."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: list[int] = []
        self.mounts = 0
        self.registry = Registry(address=f"127.0.0.1:{self.server_port}", user="hotfire", password=PASSWORD)


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeRegistry

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        account = self.server.registry
        wanted = base64.b64encode(f"{account.user}:{account.password}".encode()).decode()
        if self.headers.get("authorization") != f"Basic {wanted}":
            return self.answer(401)
        path, _, query = self.path.partition("?")
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(uploads/\w*|[^/]+)", path)
        assert found
        repository, kind, rest = found.groups()
        there = self.server.blobs.setdefault(repository, {})
        given = dict(part.replace("%3A", ":").split("=", 1) for part in query.split("&") if part)
        if self.command == "HEAD":
            return self.answer(200 if rest in there else 404)
        if self.command == "POST":
            if given.get("mount") in self.server.blobs.get(given.get("from", ""), {}):
                self.server.mounts += 1
                there[given["mount"]] = self.server.blobs[given["from"]][given["mount"]]
                return self.answer(201)
            return self.answer(202, Location=f"http://{account.address}/v2/{repository}/blobs/uploads/u1?_state=secretstate")
        if kind == "manifests":
            wants = [blob["digest"] for blob in (*json.loads(body)["layers"], json.loads(body)["config"])]
            self.server.manifests[f"{repository}@{rest}"] = body
            return self.answer(201 if all(want in there for want in wants) else 400)
        if given["digest"] != oci.digest(body) or given["_state"] != "secretstate":
            return self.answer(400)
        self.server.uploads.append(len(body))
        there[given["digest"]] = body
        return self.answer(201)

    do_HEAD = do_POST = do_PUT = handle_one


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def tree(folder: Path) -> Path:
    """A few files whose order of making and times differ from call to call."""
    (folder / "app").mkdir(parents=True)
    for name in sorted(("b", "a", "c"), key=lambda n: hash((n, str(folder)))):
        (folder / "app" / name).write_text(name * 1000)
    (folder / "app" / "link").symlink_to("a")
    return folder


def layout(folder: Path, settings: dict[str, object] | None = None) -> Path:
    made = folder / "layout"
    oci.write(made, settings or SETTINGS, [oci.pack(tree(folder / "tree"), made)])
    return made


def test_every_digest_is_that_of_its_blob(tmp_path: Path) -> None:
    made = layout(tmp_path)
    digest, manifest = oci.image(made)
    assert digest == oci.digest(manifest)
    document = json.loads(manifest)
    for blob in (document["config"], *document["layers"]):
        content = oci.blob(made, blob["digest"]).read_bytes()
        assert (oci.digest(content), len(content)) == (blob["digest"], blob["size"])
    config = json.loads(oci.blob(made, document["config"]["digest"]).read_bytes())
    plain = gzip.decompress(oci.blob(made, document["layers"][0]["digest"]).read_bytes())
    assert config["rootfs"]["diff_ids"] == [oci.digest(plain)] and config["config"] == SETTINGS
    assert sorted(os.listdir(made)) == ["blobs", "index.json", "oci-layout"]


def test_a_layer_holds_the_tree_without_times_and_names(tmp_path: Path) -> None:
    made = layout(tmp_path)
    layer = json.loads(oci.image(made)[1])["layers"][0]["digest"]
    with tarfile.open(oci.blob(made, layer)) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == ["app", "app/a", "app/b", "app/c", "app/link"]
    assert {(entry.mtime, entry.uname, entry.gname) for entry in entries} == {(0, "", "")}
    assert entries[-1].linkname == "a" and entries[1].size == 1000


def test_the_same_files_make_the_same_image(tmp_path: Path) -> None:
    first, second = layout(tmp_path / "one"), layout(tmp_path / "two")
    os.utime(tmp_path / "two" / "tree" / "app" / "a", (1, 1))
    assert oci.image(first) == oci.image(second)
    assert oci.image(first) != oci.image(layout(tmp_path / "three", {**SETTINGS, "User": "0"}))


def test_the_pause_archive_is_a_layout(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF" * 100)
    archive = pause.write(tmp_path / "pause.tar", "some/pause:1", binary)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "out", filter="data")
    _, manifest = oci.image(tmp_path / "out")
    for blob in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
        content = oci.blob(tmp_path / "out", blob["digest"]).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob["digest"]


def test_a_pushed_image_is_whole_and_named_by_its_digest(tmp_path: Path, fake: FakeRegistry) -> None:
    made = layout(tmp_path)
    digest, manifest = oci.image(made)
    reference = images.push_layout(fake.registry, made, "some/app", "1")
    assert reference == f"{fake.registry.address}/some/app@{digest}" and DIGEST.fullmatch(reference)
    assert fake.manifests == {f"some/app@{digest}": manifest, "some/app@1": manifest}
    assert len(fake.uploads) == 2


def test_blobs_that_are_there_are_not_sent(tmp_path: Path, fake: FakeRegistry) -> None:
    made = layout(tmp_path)
    images.push_layout(fake.registry, made, "tiny")
    before = list(fake.uploads)
    images.push_layout(fake.registry, made, "tiny")
    assert fake.uploads == before
    images.push_layout(fake.registry, made, "llamacpp", beside=("tiny",))  # what our other image has is taken from there
    assert fake.uploads == before and fake.mounts == 2


def test_a_registry_that_refuses_is_named_without_its_secrets(tmp_path: Path, fake: FakeRegistry) -> None:
    wrong = fake.registry.model_copy(update={"password": "another"})
    with pytest.raises(HarnessError, match=r"POST /v2/tiny/blobs/uploads/: 401") as caught:
        images.push_layout(wrong, layout(tmp_path), "tiny")
    assert fake.registry.address in str(caught.value)
    assert "another" not in str(caught.value) and PASSWORD not in str(caught.value)


def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = Registry(address="127.0.0.1:9", user="hotfire", password=PASSWORD)
    with pytest.raises(HarnessError, match=r"registry 127\.0\.0\.1:9: "):
        images.push_layout(nowhere, layout(tmp_path), "tiny")


def test_the_pull_secret_is_what_a_kubelet_takes(fake: FakeRegistry) -> None:
    secret = images.pull_secret(fake.registry, "registry")
    assert secret["metadata"] == {"name": "registry"} and secret["type"] == "kubernetes.io/dockerconfigjson"
    auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    assert base64.b64decode(auths[fake.registry.address]["auth"]).decode() == f"hotfire:{PASSWORD}"


def test_an_image_is_built_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is a folder here: what mmdebstrap makes of it is the stand's test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_root", lambda root: tree(root))
    told: list[str] = []
    first = images.build("tiny", told.append)
    assert images.build("tiny", told.append) == first
    assert [line for line in told if line.startswith("building")] == [
        "building image base (once)",
        "building image tiny (once)",
    ]
    layers = json.loads(oci.image(first)[1])["layers"]
    with tarfile.open(oci.blob(first, layers[1]["digest"])) as archive:
        assert [(e.name, e.mode) for e in archive] == [("app", 0o755), ("app/server.py", 0o644), ("app/site", 0o755)]
    assert not list(first.parent.glob(".*"))
    monkeypatch.setattr(images, "MAKING", 0)
    assert images.build("tiny", told.append) != first


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def broken(root: Path) -> Path:
        raise HarnessError("no packages today")

    monkeypatch.setattr(images, "_root", broken)
    with pytest.raises(HarnessError, match="no packages"):
        images.build("tiny", lambda _: None)
    assert sorted(p.name for p in (tmp_path / "hotfire" / "images").iterdir()) == ["base.lock", "tiny.lock"]


def test_an_unknown_image_is_named() -> None:
    with pytest.raises(BadInput, match="no image 'vllm': llamacpp, tiny, hotfire"):
        images.build("vllm", lambda _: None)
