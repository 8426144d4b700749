"""Real servers for tests, on free loopback ports, ended with the test: S3 and Ray."""

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import s3fs
from botocore.exceptions import BotoCoreError

from tests.command import unconfigured

BUCKET = "advfeat"
_START_SECONDS = 60.0


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, str]]:
    """Start SeaweedFS with S3 and an empty bucket; give the AWS variables that lead to it."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "advfeat",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = dict(zip(("master", "volume", "filer", "s3"), _free_ports(4), strict=True))
    command = [
        *(_beside_python("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}"),
        *("-volume.max=20", "-master.volumeSizeLimitMB=64"),
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={port}" for name, port in zip(ports, _free_ports(4), strict=True)),
    ]
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    variables = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        _wait_for_port(ports["s3"], server, folder / "weed.log")
        _make_bucket(variables)
        yield variables
    finally:
        server.kill()  # asked to end, it would take ten seconds
        server.wait()


def s3_client(variables: dict[str, str]) -> s3fs.S3FileSystem:
    """Return a client for the server that the variables lead to."""
    return s3fs.S3FileSystem(
        key=variables["AWS_ACCESS_KEY_ID"],
        secret=variables["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        use_listings_cache=False,
        skip_instance_cache=True,
    )


@contextlib.contextmanager
def ray_cluster(folder: Path, cores: int) -> Iterator[dict[str, str]]:
    """Start a Ray node as an administrator would; give the variables that lead to it."""
    token = folder / "ray_token"
    token.write_text(secrets.token_hex(32))
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    (port,) = _free_ports(1)
    command = [
        *(_beside_python("ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={cores}"),
        *("--include-dashboard=false", "--object-store-memory=100000000"),
    ]
    with (folder / "ray.log").open("wb") as log:
        node = subprocess.Popen(command, env=unconfigured() | variables, stdout=log, stderr=log)
    address = f"127.0.0.1:{port}"
    try:
        _wait_for_port(port, node, folder / "ray.log")
        yield variables | {"RAY_ADDRESS": address}
    finally:
        node.terminate()
        node.wait(60)


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise TimeoutError(log.read_text())


def _make_bucket(variables: dict[str, str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            s3_client(variables).mkdir(BUCKET)
            return
        except (OSError, BotoCoreError):  # it listens a moment before it serves
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def _beside_python(program: str) -> str:
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    assert found is not None, f"{program} is not installed: pip install -e '.[dev]'"
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
