"""Container images from the recipes in `embedded/images`, without Docker, and their way into the stand's registry.

Two layers each: a Debian base that all share, and the app. Built once for each content of a recipe and cached as an OCI
layout, `$XDG_CACHE_HOME/hotfire/images/NAME-KEY/`; a build goes into a folder of its own and is renamed, under a lock.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from hotfire.errors import BadInput, HarnessError
from hotfire.stand import own
from hotfire.stand.embedded import oci, plan, processes
from hotfire.stand.embedded.build import locked
from hotfire.stand.embedded.lifecycle import Registry
from hotfire.stand.registries import session

RECIPES = Path(__file__).parent / "embedded" / "images"
SUITE = "bookworm"
APT = Path("/etc/apt")
NAMES = ("llamacpp", "tiny", *own.IMAGES)  # the app of the last two is hotfire itself
PYTHON = (3, 11)  # of the suite
MAKING = 1  # raised when the same recipe is made into something else
SETTINGS: Mapping[str, Any] = {
    "Entrypoint": ["python3", "/app/server.py"],
    "User": "1000:1000",
    "WorkingDir": "/app",
    "Env": [f"PATH={processes.PATH}", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=/app/site"],
}
Say = Callable[[str], None]


def push_all(registry: Registry, say: Say) -> Mapping[str, str]:
    """Build what is missing and push it: name -> `ADDRESS/NAME@sha256:…`. HarnessError when a build or the registry fails."""
    return {name: push(registry, name, say) for name in NAMES}


def push(registry: Registry, name: str, say: Say) -> str:
    """One image, built if it is not there, in the registry: `ADDRESS/NAME@sha256:…`."""
    return push_layout(registry, build(name, say), name, say=say, beside=NAMES)


def pull_secret(registry: Registry, name: str) -> dict[str, Any]:
    """The imagePullSecret with the registry's account, without a namespace."""
    auth = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    config = json.dumps({"auths": {registry.address: {"auth": auth}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }


def build(name: str, say: Say) -> Path:
    """The OCI layout of an image."""
    if name not in NAMES:
        raise BadInput(f"no image {name!r}: {', '.join(NAMES)}")
    layout = _folder(name)
    if layout.exists():
        return layout
    with locked(layout.parent / f"{name}.lock"):
        if not layout.exists():
            base = _base(say)
            with _made(layout, name, say) as fresh, tempfile.TemporaryDirectory() as tree:
                below = oci.Layer(**json.loads((base / "layer.json").read_text()))
                _app(RECIPES / name, Path(tree) / "app")
                layer = oci.pack(Path(tree), fresh)
                os.link(oci.blob(base, below.descriptor["digest"]), oci.blob(fresh, below.descriptor["digest"]))
                oci.write(fresh, _settings(name), [below, layer])
    return layout


def _settings(name: str) -> Mapping[str, Any]:
    ours = own.IMAGES.get(name)
    return {**SETTINGS, "Entrypoint": ["python3", "-m", ours.command]} if ours else SETTINGS


def _key(name: str) -> str:
    """SHA-256 of the recipe, of the base's recipe and of how they are made, 16 digits of it."""
    folders = [RECIPES / "base", *([RECIPES / name] if name != "base" else [])]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    sums = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    if name in own.IMAGES:
        sums += [(_inside(file), hashlib.sha256(file.read_bytes()).hexdigest()) for file in own.IMAGES[name].modules()]
    parts = [MAKING, SUITE, oci.architecture(), sums, _settings(name) if name != "base" else {}]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _folder(name: str) -> Path:
    return plan.cache() / "images" / f"{name}-{_key(name)}"


class _made:
    """A folder to fill, renamed to `final` when the block ends well, gone otherwise; says what it does and how long."""

    def __init__(self, final: Path, name: str, say: Say) -> None:
        self.final, self.name, self.say, self.began = final, name, say, time.monotonic()

    def __enter__(self) -> Path:
        self.say(f"building image {self.name} (once)")
        self.final.parent.mkdir(parents=True, exist_ok=True)
        self.scratch = Path(tempfile.mkdtemp(prefix=f".{self.name}-", dir=self.final.parent))
        (self.scratch / "out").mkdir(mode=0o755)
        return self.scratch / "out"

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                (self.scratch / "out").rename(self.final)
                self.say(f"built image {self.name} in {time.monotonic() - self.began:.0f} s")
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _base(say: Say) -> Path:
    """The folder with the base layer's blob and `layer.json`."""
    final = _folder("base")
    with locked(final.parent / "base.lock"):
        if not final.exists():
            with _made(final, "base", say) as fresh, tempfile.TemporaryDirectory() as scratch:
                layer = oci.pack(_root(Path(scratch) / "root"), fresh)
                (fresh / "layer.json").write_text(json.dumps({"diff_id": layer.diff_id, "descriptor": layer.descriptor}))
    return final


def _root(root: Path) -> Path:
    """Debian's packages unpacked and not configured: maintainer scripts do nothing that a server in a container needs."""
    recipe = RECIPES / "base"
    if os.geteuid() != 0:
        raise BadInput("building images needs root")
    unpack(root, (recipe / "packages.txt").read_text().split())
    for pattern in (recipe / "excludes.txt").read_text().split():
        for path in sorted(root.glob(pattern)):
            path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    for name in ("passwd", "group"):
        (root / "etc" / name).write_bytes((recipe / name).read_bytes())
    # byte code that does not look at times, since layers have none; whoever serves may not write it
    compiled = ["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11"]
    processes.command("chroot", str(root), "/usr/bin/env", "-i", *compiled, within=300)
    return root


def unpack(root: Path, packages: Iterable[str]) -> None:
    """Debian's packages and what they need, as the suite has them, into a folder that is not there yet."""
    argv = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--mode=root",
        "--format=directory",
        f"--include={','.join(packages)}",
    ]
    processes.command(*argv, *(f"--aptopt={file}" for file in _apt_options()), SUITE, str(root), *_sources(), within=900)


def _sources() -> Iterator[str]:
    """The machine's own apt sources that have the suite; without any, mmdebstrap knows where Debian is."""
    for file in (APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))):
        if file.suffix in (".list", ".sources") and file.is_file():
            words = {word for line in file.read_text().splitlines() if not line.startswith("#") for word in line.split()}
            if {SUITE, "main"} <= words:
                yield str(file)


def _apt_options() -> Iterator[str]:
    """How the machine's apt fetches (a proxy, for one), which mmdebstrap does not look at."""
    for file in sorted((APT / "apt.conf.d").glob("*")):
        if file.is_file() and "acquire::" in file.read_text().lower():
            yield str(file)


def _app(recipe: Path, into: Path) -> None:
    """The app's folder: its server or hotfire's own code, and its wheels by hash; readable by all, whatever the umask."""
    site = into / "site"
    site.mkdir(parents=True)
    if (server := recipe / "server.py").exists():
        shutil.copyfile(server, into / "server.py")
    if (lock := recipe / "requirements.lock").exists():
        _wheels(lock, site)
    if recipe.name in own.IMAGES:
        _own(own.IMAGES[recipe.name], site)
    for path in (into, *into.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _own(image: own.Own, site: Path) -> None:
    """hotfire's modules beside their packages, and byte code of all that the suite's Python takes: it starts in a second."""
    for file in image.modules():
        target = site / _inside(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if sys.version_info[:2] == PYTHON:
        compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        processes.command(*compiled, "-s", str(site), "-p", "/app/site", str(site), within=300)


def _inside(file: Path) -> str:
    return str(file.relative_to(own.PACKAGE.parent))


def _wheels(lock: Path, site: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    pip += ["--python-version", ".".join(map(str, PYTHON)), "--implementation", "cp"]
    argv = [*pip, "--no-compile", "--only-binary", ":all:", "--target", str(site), "--requirement", str(lock)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"wheels of image {lock.parent.name}: {done.stderr.strip()[-500:]}")


def push_layout(
    registry: Registry,
    layout: Path,
    repository: str,
    tag: str = "",
    say: Say = lambda _: None,
    beside: Collection[str] = (),
) -> str:
    """Push a layout's image by the OCI distribution protocol: `ADDRESS/REPOSITORY@sha256:…`.

    Blobs that the registry has are not sent, nor those that it has in a repository of `beside`. tag: also name it so.
    """
    digest, manifest = oci.image(layout)
    document = json.loads(manifest)
    try:
        with session(registry) as http:
            sent = [_send(http, layout, repository, beside, blob) for blob in (*document["layers"], document["config"])]
            kind = {"content-type": document["mediaType"]}
            for reference in (digest, tag) if tag else (digest,):
                _expect(http.put(f"/v2/{repository}/manifests/{reference}", content=manifest, headers=kind), 201)
    except httpx.HTTPError as error:
        raise HarnessError(f"registry {registry.address}: {error or type(error).__name__}") from None
    say(f"pushed image {repository}: {sum(sent) / 1e6:.0f} MB sent")
    return f"{registry.address}/{repository}@{digest}"


def _send(http: httpx.Client, layout: Path, repository: str, beside: Collection[str], blob: oci.Descriptor) -> int:
    """Bytes sent, 0 when the registry has the blob."""
    digest = str(blob["digest"])
    blobs = f"/v2/{repository}/blobs"
    if http.head(f"{blobs}/{digest}").status_code in (200, 307):  # there, or kept elsewhere
        return 0
    elsewhere = (name for name in beside if name != repository and http.head(f"/v2/{name}/blobs/{digest}").status_code == 200)
    mount = {"mount": digest, "from": other} if (other := next(elsewhere, "")) else {}
    begun = _expect(http.post(f"{blobs}/uploads/", params=mount), 201, 202)
    if begun.status_code == 201:
        return 0
    where = httpx.URL(begun.headers["location"]).copy_add_param("digest", digest)
    file = oci.blob(layout, digest)
    with file.open("rb") as content:  # sent as it is read, with its length
        _expect(http.put(where, content=content, headers={"content-type": "application/octet-stream"}), 201)
    return file.stat().st_size


def _expect(answer: httpx.Response, *wanted: int) -> httpx.Response:
    if answer.status_code not in wanted:
        # the path alone: a query carries the state of an upload
        said = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:200]}".strip()
        raise HarnessError(f"registry {answer.request.url.netloc.decode()}: {said}")
    return answer
