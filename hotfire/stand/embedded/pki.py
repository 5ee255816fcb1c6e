"""One certificate authority for each life of a stand, and the kubeconfigs that rest on it."""

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hotfire.stand.embedded import plan

LIFE = datetime.timedelta(days=30)


def secret(path: Path, content: bytes | str) -> Path:
    """Write a file only root can read."""
    path.touch(mode=0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _name(user: str, group: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


@dataclass(frozen=True)
class Pair:
    """Certificate and key files."""

    cert: Path
    key: Path


class Authority:
    """Signs everything of one stand; its key never leaves the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("hotfire-stand")
        ca = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self._cert = ca.sign(self._key, hashes.SHA256())
        self.file = secret(folder / "ca.crt", self._cert.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + LIFE)
        )  # fmt: skip

    def issue(self, file: str, user: str, group: str = "", serves: Sequence[str] = ()) -> Pair:
        """A client certificate for user and group, also a server's for the names and addresses in `serves`."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else [])]
        cert = self._builder(_name(user, group), key).add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if serves:
            cert = cert.add_extension(x509.SubjectAlternativeName([_alternative(s) for s in serves]), critical=False)
        signed = cert.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Pair(secret(self.folder / f"{file}.crt", signed), secret(self.folder / f"{file}.key", _pem(key)))

    def service_account_key(self) -> Path:
        """The key ServiceAccount tokens are signed with."""
        return secret(self.folder / "sa.key", _pem(ec.generate_private_key(ec.SECP256R1())))

    def kubeconfig(self, path: Path, pair: Pair, name: str) -> Path:
        """A kubeconfig that needs no other file."""

        def inline(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        server = f"https://{plan.CONTROL}:{plan.API_PORT}"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": inline(self.file)}}],
            "users": [
                {
                    "name": name,
                    "user": {"client-certificate-data": inline(pair.cert), "client-key-data": inline(pair.key)},
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        return secret(path, json.dumps(document, indent=1))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
