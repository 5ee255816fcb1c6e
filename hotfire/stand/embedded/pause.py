"""The sandbox image: Debian's static catatonit as `/pause -P`, as an OCI archive made here."""

import gzip
from pathlib import Path

from hotfire.errors import HarnessError
from hotfire.stand.embedded import oci, plan


def write(path: Path, reference: str = plan.PAUSE, binary: Path = Path("/usr/bin/catatonit")) -> Path:
    """Write the archive that `ctr images import` takes; byte for byte the same on each call.

    The reference is part of the image, since kubelets remember by image id which one was pulled with a secret.
    """
    if not binary.exists():
        raise HarnessError(f"{binary} is missing: the pause image is made of Debian's catatonit")
    plain = oci.tar({"pause": binary.read_bytes()}, mode=0o755)
    packed = gzip.compress(plain, compresslevel=1, mtime=0)
    layer = oci.Layer(oci.digest(plain), oci.describe("layer.v1.tar+gzip", oci.digest(packed), len(packed)))
    settings = {"Entrypoint": ["/pause", "-P"], "User": "65535:65535", "Labels": {"reference": reference}}
    config = oci.config(settings, [layer])
    manifest = oci.manifest(config, [layer])
    blobs = {f"blobs/{oci.digest(blob).replace(':', '/')}": blob for blob in (config, packed, manifest)}
    path.write_bytes(oci.tar({"oci-layout": oci.LAYOUT, "index.json": oci.index(manifest, reference), **blobs}))
    return path
