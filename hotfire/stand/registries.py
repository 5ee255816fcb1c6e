"""Where an image is pushed to, and with whose account: never from the command line, where every process list shows it."""

import base64
import json
import os
from pathlib import Path

from hotfire.errors import BadInput
from hotfire.stand.embedded.lifecycle import Registry

AUTH = "HOTFIRE_REGISTRY_AUTH"


def registry_of(target: str, plain_http: bool = False) -> tuple[Registry, str]:
    """`REGISTRY/NAME` -> the registry with its account, and the name. Raises BadInput."""
    address, _, name = target.partition("/")
    if not name or "@" in name or ":" in name.rpartition("/")[2] or not (":" in address or "." in address):
        raise BadInput(f"{target}: REGISTRY/NAME without tag and digest is expected")
    user, password = _account(address)
    return Registry(address=address, user=user, password=password, scheme="http" if plain_http else "https"), name


def _account(address: str) -> tuple[str, str]:
    if given := os.environ.get(AUTH):
        user, colon, password = given.partition(":")
        if not colon:
            raise BadInput(f"${AUTH}: user:password is expected")
        return user, password
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        auths = json.loads(file.read_text(encoding="utf-8")).get("auths") or {}
        encoded = auths[address]["auth"]
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"no account for {address}: set ${AUTH} to user:password, or log in so that {file} has it") from None
    return user, password
