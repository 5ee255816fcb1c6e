"""Where an image is pushed to, and with whose account: never from the command line, where every process list shows it."""

import base64
import json
import os
import re
import ssl
from collections.abc import Generator
from pathlib import Path

import httpx

from hotfire.errors import BadInput
from hotfire.stand.embedded.lifecycle import Registry

AUTH = "HOTFIRE_REGISTRY_AUTH"
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def session(registry: Registry) -> httpx.Client:
    """A client of the registry, by the certificates that this machine trusts ($SSL_CERT_FILE). Proxies are for what is away."""
    away = registry.scheme == "https"
    return httpx.Client(
        base_url=f"{registry.scheme}://{registry.address}", auth=Account(registry.user, registry.password),
        timeout=httpx.Timeout(60, connect=5), trust_env=away, verify=ssl.create_default_context() if away else True,
    )  # fmt: skip


class Account(httpx.Auth):
    """The account itself, or the token for it where the registry asks for one (Distribution: token authentication)."""

    requires_response_body = True

    def __init__(self, user: str, password: str) -> None:
        self._basic = self._said = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """A token is good for what was asked then; for more, such as the first push, the registry asks for another."""
        request.headers["Authorization"] = self._said
        response = yield request
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        asked = dict(CHALLENGE.findall(rest))
        if response.status_code != 401 or kind.lower() != "bearer" or "realm" not in asked:
            return
        realm = httpx.URL(asked.pop("realm"), params=asked)
        if realm.scheme != "https" and request.url.scheme == "https":
            return  # nobody else may hear the password
        told = yield httpx.Request("GET", realm, headers={"Authorization": self._basic})
        if told.status_code != 200:
            return  # its refusal is what the user is told
        if said := _token(told):
            request.headers["Authorization"] = self._said = f"Bearer {said}"
        yield request  # without one, too: a page of some proxy is no answer of the registry


def _token(told: httpx.Response) -> str:
    """Empty where none came: a page of HTML, as a rule."""
    try:
        token = told.json()
        return str(token.get("token") or token.get("access_token") or "")
    except (ValueError, AttributeError):
        return ""


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
