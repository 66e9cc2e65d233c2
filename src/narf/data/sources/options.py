"""What a person writes to describe a source, checked: the options of each kind, and that no secret stands in them openly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from narf.domain.errors import BadInput

SECRET = "secret:"
_SENSITIVE = ("password", "secret_access_key", "token", "session_token", "delegation", "credential", "account_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of source. `tested`: this project's own tests run it against a real server, or (see the guide) its protocol."""

    connector: str  # "module:Class", imported on first use
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    tested: bool = True
    extra: str = "data"
    anything: bool = False  # further options are passed on
    for_admins: bool = False  # reads the platform's own machine


KINDS: dict[str, Kind] = {
    "s3": Kind(
        connector="narf.data.sources.files:S3Connector",
        required=("bucket",),
        optional=(
            *("endpoint", "region", "root", "access_key_id", "secret_access_key", "session_token"),
            *("path_style", "anonymous"),
        ),
    ),
    "webhdfs": Kind(
        connector="narf.data.sources.files:WebHdfsConnector",
        required=("endpoint",),
        optional=("root", "user_name", "delegation", "atomic_write_dir"),
    ),
    "http": Kind(
        connector="narf.data.sources.files:HttpConnector", required=("endpoint",), optional=("root", "username", "password", "token")
    ),
    "folder": Kind(connector="narf.data.sources.folder:FolderConnector", required=("path",), for_admins=True),
    "gcs": Kind(
        connector="narf.data.sources.files:GcsConnector", required=("bucket",), optional=("root", "credential", "endpoint"), tested=False
    ),
    "azblob": Kind(
        connector="narf.data.sources.files:AzureConnector",
        required=("container", "endpoint"),
        optional=("root", "account_name", "account_key", "sas_token"),
        tested=False,
    ),
    "postgresql": Kind(
        connector="narf.data.sources.sql:PostgresConnector",
        required=(),
        optional=("uri", "host", "port", "database", "user", "password", "sslmode", "sslrootcert"),
    ),
    "sqlite": Kind(connector="narf.data.sources.sql:SqliteConnector", required=("path",), for_admins=True),
    "dbapi": Kind(
        connector="narf.data.sources.dbapi:DbApiConnector",
        required=("module",),
        optional=("dsn",),
        tested=False,
        anything=True,
        for_admins=True,
    ),
    "odbc": Kind(connector="narf.data.sources.dbapi:OdbcConnector", required=("connection_string",), tested=False, for_admins=True),
    "iceberg": Kind(
        connector="narf.data.sources.iceberg:IcebergConnector",
        required=("catalog", "uri"),
        optional=("warehouse", "files", "token", "credential", "namespace", "catalog_name"),
    ),
}


def check_options(name: str, kind: str, options: Mapping[str, str], kinds: Mapping[str, Kind]) -> Kind:
    """The kind, if `options` fit it.

    Raises:
        BadInput: there is no such kind, an option is missing or unknown, or a secret stands in them openly.
    """
    known = kinds.get(kind)
    if known is None:
        raise BadInput(f"There is no kind of source {kind!r}.", remedy=f"There are {', '.join(sorted(kinds))}.", field="kind")
    if missing := [option for option in known.required if not options.get(option)]:
        raise BadInput(f"The source {name!r} ({kind}) lacks the option {missing[0]!r}.", remedy=f"Add {missing[0]}=...", field="options")
    allowed = {*known.required, *known.optional}
    if not known.anything and (unknown := sorted(set(options) - allowed)):
        raise BadInput(
            f"A source of kind {kind!r} has no option {unknown[0]!r}.", remedy=f"It has {', '.join(sorted(allowed))}.", field="options"
        )
    for option, value in options.items():
        if "\0" in value or len(value) > 4000:
            raise BadInput(f"The option {option!r} is no valid text.", field="options")
        _no_open_secret(option, value)
    return known


def _no_open_secret(option: str, value: str) -> None:
    if value.startswith(SECRET):
        return
    is_open = any(word in option.lower() for word in _SENSITIVE) and bool(value)
    if "://" in value:
        try:
            is_open = is_open or bool(urlsplit(value).password)
        except ValueError:
            raise BadInput(f"The option {option!r} is no valid address.", field="options") from None
    if is_open or "pwd=" in value.lower() or "password=" in value.lower():
        raise BadInput(
            f"The option {option!r} holds a secret openly.",
            remedy=f"Keep it as a secret: narf secret set NAME, and write {option}={SECRET}NAME",
            field="options",
            code="open_secret",
        )


def secret_names(options: Mapping[str, str]) -> dict[str, str]:
    """Option -> the name of the project's secret that holds its value."""
    return {option: value.removeprefix(SECRET) for option, value in options.items() if value.startswith(SECRET)}
