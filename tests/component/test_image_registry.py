"""`hotfire image push` to a registry that is not the stand's: TLS by an authority of its own, and tokens instead of passwords.

The registry is the real one, told to trust a token service; that one is a thread, and notes what it is asked.
"""

import base64
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hotfire.stand.embedded import build
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.pki import Authority, Pair
from hotfire.stand.registries import AUTH
from tests.control_plane import free_port

ACCOUNT = "robot:pass-word-never-shown"


def coded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def token(pair: Pair, scopes: list[str]) -> str:
    """As the token service of Distribution's documentation signs it (ES256, its certificate in the header)."""
    der = x509.load_pem_x509_certificate(pair.cert.read_bytes()).public_bytes(serialization.Encoding.DER)
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    access = [
        dict(zip(("type", "name", "actions"), [*one.split(":")[:2], one.split(":")[2].split(",")], strict=True))
        for one in scopes
    ]
    now = int(time.time())
    claims = {
        "iss": "tokens",
        "sub": "robot",
        "aud": "images",
        "nbf": now - 5,
        "iat": now,
        "exp": now + 300,
        "jti": "1",
        "access": access,
    }
    head = {"alg": "ES256", "typ": "JWT", "x5c": [base64.b64encode(der).decode()]}
    said = ".".join(coded(json.dumps(part).encode()) for part in (head, claims))
    r, s = decode_dss_signature(key.sign(said.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{said}.{coded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class Tokens(BaseHTTPRequestHandler):
    pair: Pair
    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
        self.asked += scopes
        known = self.headers.get("Authorization") == f"Basic {base64.b64encode(ACCOUNT.encode()).decode()}"
        body = json.dumps({"token": token(self.pair, scopes)}).encode() if known else b"{}"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Abroad:
    """A registry and its token service."""

    address: str
    authority: Path
    asked: list[str] = field(default_factory=list)

    def push(self, account: str, *more: str, trusted: bool = True) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, AUTH: account} | ({"SSL_CERT_FILE": str(self.authority)} if trusted else {})
        command = [
            sys.executable,
            "-m",
            "hotfire.cli",
            "image",
            "push",
            f"{self.address}/team/hotfire",
            "--name",
            "hotfire",
            *more,
        ]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abroad]:
    folder = tmp_path_factory.mktemp("abroad")
    authority = Authority(folder / "pki")
    pair = authority.issue("abroad", "abroad", serves=["127.0.0.1"])
    found = Abroad(f"127.0.0.1:{free_port()}", authority.file)
    service = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Tokens,), {"pair": pair, "asked": found.asked}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    service.socket = context.wrap_socket(service.socket, server_side=True)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    signer = {"realm": f"https://127.0.0.1:{service.server_port}/token", "service": "images", "issuer": "tokens"}
    config: dict[str, Any] = {
        "version": "0.1", "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
        "http": {"addr": found.address, "tls": {"certificate": str(pair.cert), "key": str(pair.key)}},
        "auth": {"token": {**signer, "rootcertbundle": str(authority.file)}},
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))
    (part,) = [component for component in build.COMPONENTS if component.name == "registry"]
    binary = build.build(part, sys.stderr.write) / part.binaries["registry"]
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        child = subprocess.Popen([binary, "serve", folder / "config.yaml"], stdout=log, stderr=log, env=environment)
    try:
        until("the registry answers", lambda: answers(found), 20)
        yield found
    finally:
        child.kill()
        child.wait()
        service.shutdown()
        service.server_close()


def answers(abroad: Abroad) -> bool:
    try:
        context = ssl.create_default_context(cafile=str(abroad.authority))
        return httpx.get(f"https://{abroad.address}/v2/", verify=context, trust_env=False).status_code == 401
    except httpx.HTTPError:
        return False


def test_an_image_is_pushed_with_the_token_that_the_registry_asks_for(abroad: Abroad) -> None:
    first = abroad.push(ACCOUNT)
    assert first.returncode == 0 and first.stdout.startswith(f"{abroad.address}/team/hotfire@sha256:"), first.stderr
    assert abroad.asked and {one.split(":")[1] for one in abroad.asked} == {"team/hotfire"}  # of no other repository
    assert (
        set(abroad.asked[-1].rpartition(":")[2].split(",")) == {"pull", "push"}
        and "pushed image team/hotfire: 0 MB" not in first.stderr
    )
    again = abroad.push(ACCOUNT)
    assert again.stdout == first.stdout and "pushed image team/hotfire: 0 MB sent" in again.stderr


def test_a_wrong_account_is_said_without_the_password(abroad: Abroad) -> None:
    refused = abroad.push("robot:wrong-pass-word")
    assert refused.returncode == 1 and "GET /token: 401" in refused.stderr, refused.stderr
    assert "wrong-pass-word" not in refused.stderr + refused.stdout and "Traceback" not in refused.stderr


def test_an_authority_that_this_machine_does_not_trust_is_refused(abroad: Abroad) -> None:
    refused = abroad.push(ACCOUNT, trusted=False)
    assert refused.returncode == 1 and "CERTIFICATE_VERIFY_FAILED" in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr
