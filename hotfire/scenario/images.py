"""Images by digest. A tag names whatever somebody last pushed; only a digest can be proved to be what runs."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from hotfire.errors import BadInput
from hotfire.scenario.model import Located

DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def below(data: Any, *keys: str) -> Any:
    """The value at a path of keys, None where something on the way is no mapping or has no such key."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def templates(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every pod template of an object, whatever its kind: what holds a `spec` with containers that have a name and an image."""
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict) and is_template(node):
            found.append(node)
        elif isinstance(node, dict):
            walk(list(node.values()))

    walk(manifest.get("spec"))
    return found


def is_template(node: Any) -> bool:
    """Whether it holds a `spec` of containers with name and image."""
    listed = below(node, "spec", "containers")
    named = isinstance(listed, list) and all(isinstance(below(one, key), str) for one in listed for key in ("name", "image"))
    return bool(listed) and named


def containers(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every container of its pod templates, init containers first; none where it has no template."""
    for template in templates(manifest):
        for group in ("initContainers", "containers"):
            listed = template["spec"].get(group)
            yield from (item for item in listed if isinstance(item, dict)) if isinstance(listed, list) else ()


def with_images(located: Located, images: Mapping[str, str]) -> Located:
    """The same scenario with image NAME replaced by REF, as `kustomize edit set image NAME=REF` does.

    Raises BadInput for a REF without a digest, for a NAME that no container uses, and for any image left without one.
    """
    wrong = [f"--image {name}={ref}: no digest, {name}=REGISTRY/NAME@sha256:… is expected" for name, ref in images.items()
             if not DIGEST.fullmatch(ref)]  # fmt: skip
    copied = located.model_copy(update={"objects": deepcopy(located.objects)})
    used: set[str] = set()
    for manifest in copied.objects:
        for container in containers(manifest):
            name = str(container.get("image", ""))
            used |= {name} & images.keys()
            container["image"] = images.get(name, name)
            if not DIGEST.fullmatch(container["image"]):
                where = f"{manifest['kind']}/{manifest['metadata']['name']}"  # type: ignore[index]
                wrong.append(
                    f"{located.path}: {where}: image {name!r} has no digest: write NAME@sha256:… or pass --image {name}=REF"
                )
    wrong += [f"--image {name}: no container of {located.path} uses it" for name in images if name not in used]
    if wrong:
        raise BadInput(*wrong)
    return copied
