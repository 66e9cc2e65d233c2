"""Settings: read once, from the environment, into one frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from narf.domain.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where state lives and which engines are used.

    home: everything the embedded platform keeps, below one folder:
        narf.db, mlflow.db          databases (unless database_url / mlflow_database_url say otherwise)
        objects/                    content-addressed code snapshots and dataset files
        artifacts/                  MLflow artifacts
        jobs/<job id>/              one folder a job: job.json, state.json, log/, spool/, work/
        environments/               Python environments built from requirements
        run/                        sockets, pid files, server.json (url) of what is up now
        log/                        the platform's own logs
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8321
    gateway_port: int = 8322
    gateways: int = 2  # processes that share that port
    database_url: str = ""
    mlflow_database_url: str = ""
    artifact_root: str = ""  # a folder or s3://bucket/prefix; "" is <home>/artifacts
    simulate_gpus: int = 0
    single_user: bool = True  # loopback only, one admin; see docs/security.md
    log_level: str = "INFO"
    ray_address: str = ""  # host:port of a Ray cluster that takes workloads too
    smtp_relay: str = ""  # host:port; mails owners when their work ends
    mail_domain: str = ""
    catalogue: str = ""  # module:Class of an enterprise catalogue; "" is JSON files in <home>/catalogue
    preload: tuple[str, ...] | None = None  # what programs find imported; None is the backend's choice, () starts each from nothing
    git_hosts: str = ""  # git.example.com, *.example.org: where code may be fetched from; "" is every public host
    webhook_hosts: str = ""  # hooks.example.com, *.example.org: where webhooks are sent to; "" is every host but this machine
    retention: str = ""  # jobs=30d/50Gi, ...; with one, what it no longer keeps is deleted every hour

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'narf.db'}"

    @property
    def mlflow_database(self) -> str:
        return self.mlflow_database_url or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifacts(self) -> str:
        return self.artifact_root or str(self.home / "artifacts")


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that NARF_* variables give, with defaults for the rest.

    Raises:
        BadInput: a value is not of its type.
    """

    def number(name: str, default: int, least: int, most: int) -> int:
        text = environ.get(name, "")
        if not text:
            return default
        if not text.isdigit() or not least <= int(text) <= most:
            raise BadInput(f"{name}={text!r} is not a whole number from {least} to {most}.", remedy=f"Correct or unset {name}.")
        return int(text)

    return Settings(
        home=Path(environ.get("NARF_HOME") or Path.home() / ".narf").expanduser().absolute(),
        host=environ.get("NARF_HOST") or "127.0.0.1",
        port=number("NARF_PORT", 8321, 0, 65535),
        gateway_port=number("NARF_GATEWAY_PORT", 8322, 0, 65535),
        gateways=number("NARF_GATEWAYS", 2, 1, 64),
        database_url=environ.get("NARF_DATABASE_URL", ""),
        mlflow_database_url=environ.get("NARF_MLFLOW_DATABASE_URL", ""),
        artifact_root=environ.get("NARF_ARTIFACT_ROOT", ""),
        simulate_gpus=number("NARF_SIMULATE_GPUS", 0, 0, 100_000),
        ray_address=environ.get("NARF_RAY_ADDRESS", ""),
        smtp_relay=environ.get("NARF_SMTP_RELAY", ""),
        mail_domain=environ.get("NARF_MAIL_DOMAIN", ""),
        catalogue=environ.get("NARF_CATALOGUE", ""),
        preload=tuple(name.strip() for name in environ["NARF_PRELOAD"].split(",") if name.strip()) if "NARF_PRELOAD" in environ else None,
        git_hosts=environ.get("NARF_GIT_HOSTS", ""),
        webhook_hosts=environ.get("NARF_WEBHOOK_HOSTS", ""),
        retention=environ.get("NARF_RETENTION", ""),
        log_level=(environ.get("NARF_LOG_LEVEL") or "INFO").upper(),
    )
