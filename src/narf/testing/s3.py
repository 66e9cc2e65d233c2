"""A real S3 server for tests: OpenStack Swift with its s3api, from the `swift` package, on this machine's loopback."""

from __future__ import annotations

import getpass
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RINGS = ("object", "container", "account")


class S3Server:
    """Where it is and with which keys. Buckets are made by `make_bucket`."""

    access_key_id, secret_access_key, region = "test:tester", "testing", "us-east-1"

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    def options(self, bucket: str) -> dict[str, str]:
        """Of a Narf source of kind s3."""
        keys = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        return {"bucket": bucket, "endpoint": self.endpoint, "region": self.region, "path_style": "true", **keys}

    def make_bucket(self, name: str) -> str:
        """At least 3 characters."""
        from pyarrow.fs import S3FileSystem

        files = S3FileSystem(
            access_key=self.access_key_id,
            secret_key=self.secret_access_key,
            region=self.region,
            endpoint_override=self.endpoint.removeprefix("http://"),
            scheme="http",
            allow_bucket_creation=True,
        )
        files.create_dir(name)
        return name

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthcheck", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def s3_server(folder: Path, *, start_seconds: float = 120.0) -> Iterator[S3Server]:
    """A server that keeps its state below `folder`; stopped at the end. It takes some seconds to start."""
    ports = dict(zip((*_RINGS, "proxy"), _free_ports(4), strict=True))
    conf = folder / "conf"
    (folder / "devices" / "d1").mkdir(parents=True)
    conf.mkdir()
    (conf / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = narf\nswift_hash_path_prefix = narf\n[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    for ring in _RINGS:
        (conf / f"{ring}.conf").write_text(_storage_configuration(ring, ports[ring], folder))
    (conf / "proxy.conf").write_text(_proxy_configuration(ports["proxy"], conf))
    log = (folder / "swift.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "narf.testing.s3", str(folder), *map(str, ports.values())], stdout=log, stderr=log)
    try:
        server = S3Server(ports["proxy"])
        deadline = time.monotonic() + start_seconds
        while not server.is_ready():
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"Swift did not start: {(folder / 'swift.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield server
    finally:
        process.kill()  # it keeps nothing that matters
        process.wait()
        log.close()


def serve(folder: Path, ports: dict[str, int]) -> None:
    """All four of Swift's servers in this one process, which starts four times sooner than each in its own."""
    import eventlet
    import eventlet.wsgi

    eventlet.monkey_patch()
    from swift.common.ring import RingBuilder
    from swift.common.utils import set_swift_dir
    from swift.common.wsgi import loadapp

    conf = folder / "conf"
    set_swift_dir(str(conf))
    for ring in _RINGS:
        builder = RingBuilder(8, 1, 0)
        builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": ports[ring], "device": "d1", "weight": 1.0})
        builder.rebalance()
        builder.get_ring().save(str(conf / f"{ring}.ring.gz"))
    threads = []
    for name, port in ports.items():
        application = loadapp(str(conf / f"{name}.conf"), global_conf={"log_name": name})
        listener = eventlet.listen(("127.0.0.1", port))
        threads.append(eventlet.spawn(eventlet.wsgi.server, listener, application, log_output=False))
    for thread in threads:
        thread.wait()


def _storage_configuration(ring: str, port: int, folder: Path) -> str:
    return f"""[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {getpass.getuser()}
swift_dir = {folder / "conf"}
devices = {folder / "devices"}
mount_check = false
log_level = WARNING
fallocate_reserve = 0
[pipeline:main]
pipeline = {ring}-server
[app:{ring}-server]
use = egg:swift#{ring}
"""


def _proxy_configuration(port: int, conf: Path) -> str:
    filters = [
        "catch_errors",
        "gatekeeper",
        "healthcheck",
        "cache",
        "listing_formats",
        "s3api",
        "tempauth",
        "bulk",
        "slo",
        "dlo",
        "versioned_writes",
        "symlink",
    ]
    eggs = {"cache": "memcache", "listing_formats": "listing_formats"}
    lines = [
        *("[DEFAULT]", "bind_ip = 127.0.0.1", f"bind_port = {port}", "workers = 0", f"user = {getpass.getuser()}", f"swift_dir = {conf}"),
        *("log_level = WARNING", "[pipeline:main]", f"pipeline = {' '.join(filters)} proxy-server"),
        *("[app:proxy-server]", "use = egg:swift#proxy", "account_autocreate = true", "allow_account_management = true"),
    ]
    for name in filters:
        lines += [f"[filter:{name}]", f"use = egg:swift#{eggs.get(name, name)}"]
        if name == "tempauth":
            lines.append("user_test_tester = testing .admin .reseller_admin")
        if name == "versioned_writes":
            lines.append("allow_object_versioning = true")
        if name == "s3api":
            lines += ["location = us-east-1", "dns_compliant_bucket_names = true"]
    return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), dict(zip((*_RINGS, "proxy"), map(int, sys.argv[2:]), strict=True)))
