"""OCI images without a container tool: layers, config, manifest, and the layout folder that holds them.

Byte for byte the same for the same files: entries sorted, times zero, no names of users.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
Descriptor = Mapping[str, Any]


@dataclass(frozen=True)
class Layer:
    """One packed layer. diff_id: digest before gzip, as the config names it; descriptor: of the packed blob."""

    diff_id: str
    descriptor: Descriptor


def digest(content: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def describe(kind: str, blob_digest: str, size: int) -> Descriptor:
    """kind: what follows `application/vnd.oci.image.`; size in bytes."""
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": blob_digest, "size": size}


def architecture() -> str:
    """This machine's, in OCI's words."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")


def tar(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    """A small archive of root's files, from memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def config(settings: Mapping[str, Any], layers: Sequence[Layer]) -> bytes:
    """The config blob. settings: Entrypoint, User, Env, Labels."""
    return json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()


def manifest(config_blob: bytes, layers: Sequence[Layer]) -> bytes:
    """The manifest blob: its digest is the image's."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe("config.v1+json", digest(config_blob), len(config_blob)),
            "layers": [layer.descriptor for layer in layers],
        }
    ).encode()


def index(manifest_blob: bytes, reference: str = "") -> bytes:
    """The index of a layout with one image. reference: the name that `ctr images import` gives it."""
    named = dict(describe("manifest.v1+json", digest(manifest_blob), len(manifest_blob)))
    if reference:
        named["annotations"] = {"io.containerd.image.name": reference}
    return json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()


def blob(layout: Path, blob_digest: str) -> Path:
    """The file of a blob in a layout folder."""
    return layout / "blobs" / blob_digest.replace(":", "/")


class _Tee:
    """Hashes and counts what goes through to `sink`."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.sink, self.sum, self.size = sink, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self.sum.update(content)
        self.size += len(content)
        return self.sink.write(content)

    def flush(self) -> None:
        self.sink.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self.sum.hexdigest()}"


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime, info.uname, info.gname = 0, "", ""
    return info


def pack(tree: Path, layout: Path) -> Layer:
    """Pack a folder's contents as a layer into the layout, streamed: memory does not grow with the files."""
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".part"
    with part.open("wb") as file:
        packed = _Tee(file)
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=cast("IO[bytes]", packed), mtime=0) as squeezed:
            plain = _Tee(cast("IO[bytes]", squeezed))
            with tarfile.open(fileobj=cast("IO[bytes]", plain), mode="w|", format=tarfile.GNU_FORMAT) as archive:
                for path in sorted(tree.rglob("*")):
                    archive.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain)
    part.rename(blob(layout, packed.digest))
    return Layer(plain.digest, describe("layer.v1.tar+gzip", packed.digest, packed.size))


def write(layout: Path, settings: Mapping[str, Any], layers: Sequence[Layer]) -> str:
    """Complete a layout whose layers are in it; the image's digest."""
    config_blob = config(settings, layers)
    manifest_blob = manifest(config_blob, layers)
    for content in (config_blob, manifest_blob):
        blob(layout, digest(content)).write_bytes(content)
    (layout / "oci-layout").write_bytes(LAYOUT)
    (layout / "index.json").write_bytes(index(manifest_blob))
    return digest(manifest_blob)


def image(layout: Path) -> tuple[str, bytes]:
    """Digest and manifest of a layout's one image."""
    found = str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])
    return found, blob(layout, found).read_bytes()
