"""TLS is the same load: the kernel's stamps stay, an untrusted or misnamed server is an error of its own."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hotfire.load.plan import Plan
from hotfire.load.run import LoadRun
from hotfire.load.target import Target

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = HEAD + f"{len(TOKEN):x}\r\n".encode() + TOKEN + b"\r\n0\r\n\r\n"


def certificate(folder: Path, address: str) -> Path:
    """A key and a certificate signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "load test")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    signed = (
        built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{address}.pem"
    path.write_bytes(private + signed.public_bytes(pem))
    return path


@pytest.mark.parametrize(
    ("named", "trusted", "errors"),
    [("127.0.0.1", True, {}), ("127.0.0.1", False, {"tls": 6}), ("127.0.0.9", True, {"tls": 6})],
    ids=["trusted", "untrusted", "misnamed"],
)
def test_a_certificate_is_checked_and_its_streams_are_stamped(
    scripted: Callable[..., Any],
    planned: Callable[..., Plan],
    tmp_path: Path,
    named: str,
    trusted: bool,
    errors: dict[str, int],
) -> None:
    path = certificate(tmp_path, named)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = scripted({"hello": [WHOLE[:40], 0.05, WHOLE[40:]]}, context)
    target = Target(server.url, "chat", "m", timeout_s=3, ca=str(path) if trusted else "")
    with LoadRun.start(planned("constant 20/s", 6), target, tmp_path / "out") as load:
        window, ended = load.wait_look(1), load.stop()
    assert window.errors() == errors and ended.client["stamps"] == "kernel"
    assert errors or (window.latency("ttft")[1:].min() > 0.04 and window.latency("ttft").max() < 1)
