"""SeaweedFS as an S3 server of one machine.

Its S3 port asks for keys. Master, volume and filer, which it consists of, hand out every object to whoever
asks, so they speak TLS alone and ask each caller for a certificate, of which there is one: their own.
"""

import ipaddress
import json
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from advfeat.cluster.embedded import LOOPBACK
from advfeat.cluster.private_files import private_folder, write_private

PARTS = ("master", "volume", "filer", "s3")
"""What listens, each on a port for HTTP and one for gRPC."""

_INNER = PARTS[:3]
_VALIDITY = timedelta(days=3650)


def weed() -> str | None:
    """Return where SeaweedFS is, if it is installed."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def command(
    folder: Path, data: Path, ports: Mapping[str, int], *, volumes: int, volume_megabytes: int
) -> tuple[str, ...]:
    """Return the command that serves ``data`` as ``write_configuration`` says in ``folder``.

    ``ports`` has one for each part and one for its gRPC (``"s3"``, ``"s3.grpc"``).
    """
    return (
        *(weed() or "weed", f"-config_dir={folder}", "server", f"-dir={data}"),
        *(f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", "-filer", "-s3", f"-s3.config={folder / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.preStopSeconds=0", "-master.telemetry=false"),
        *(f"-volume.max={volumes}", f"-master.volumeSizeLimitMB={volume_megabytes}"),
        *(f"-{name}.port={ports[name]}" for name in PARTS),
        *(f"-{name}.port.grpc={ports[f'{name}.grpc']}" for name in PARTS),
    )


def write_configuration(folder: Path, access_key: str, secret_key: str) -> None:
    """Write what the server reads at its start: its one user's keys, and a certificate drawn anew."""
    private_folder(folder)
    identity = {
        "name": "advfeat",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(folder / "s3.json", json.dumps({"identities": [identity]}))
    certificate, key = _certificate()
    write_private(folder / "certificate.pem", certificate)
    write_private(folder / "key.pem", key)
    write_private(folder / "security.toml", _security(folder / "certificate.pem", folder / "key.pem"))


def _security(certificate: Path, key: Path) -> str:
    own = {"cert": str(certificate), "key": str(key)}
    trusted = {"ca": str(certificate)}
    sections = {
        "grpc": trusted,
        **{f"grpc.{name}": own for name in (*PARTS, "client")},
        **{f"https.{name}": trusted | own for name in (*_INNER, "client")},
    }
    lines = []
    for section, entries in sections.items():
        lines.append(f"[{section}]")
        if section == "https.client":
            lines.append("enabled = true")
        # What JSON writes is a string of TOML, too.
        lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in entries.items()]
    return "\n".join(lines) + "\n"


def _certificate() -> tuple[str, str]:
    """Draw a key and let it sign itself; return both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "advfeat")])
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private.decode()
