"""The sandbox image: Debian's static catatonit as `/pause -P`, as an OCI archive made here."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from hotfire.errors import HarnessError
from hotfire.stand.embedded import plan


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(path: Path, reference: str = plan.PAUSE, binary: Path = Path("/usr/bin/catatonit")) -> Path:
    """Write the archive that `ctr images import` takes; byte for byte the same on each call.

    The reference is part of the image, since kubelets remember by image id which one was pulled with a secret.
    """
    if not binary.exists():
        raise HarnessError(f"{binary} is missing: the pause image is made of Debian's catatonit")
    layer = _tar({"pause": binary.read_bytes()}, mode=0o755)
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
            "os": "linux",
            "config": {"Entrypoint": ["/pause", "-P"], "User": "65535:65535", "Labels": {"reference": reference}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    blobs = {hashlib.sha256(b).hexdigest(): b for b in (config, packed)}

    def describe(kind: str, blob: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(blob)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("config.v1+json", config),
            "layers": [describe("layer.v1.tar+gzip", packed)],
        }
    ).encode()
    blobs[hashlib.sha256(manifest).hexdigest()] = manifest
    named = {**describe("manifest.v1+json", manifest), "annotations": {"io.containerd.image.name": reference}}
    index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    path.write_bytes(_tar({**files, **{f"blobs/sha256/{d}": b for d, b in blobs.items()}}))
    return path
