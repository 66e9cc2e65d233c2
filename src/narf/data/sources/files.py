"""Sources of files, through opendal: S3, WebHDFS, HTTP, Google and Azure storage."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import opendal
from opendal import exceptions, layers

from narf.data.sources.connector import FILES, Lacking, RemoteFile, RemoteStream, gone, refused, scrubbed, unreachable
from narf.domain.errors import BadInput, NarfError

_TIMEOUT_SECONDS, _RETRIES = 20.0, 3
_LOOK = 1_000
_WORDED = re.compile(r'message: "((?:[^"\\]|\\.)+)"')  # what a service said, within opendal's debugging text
# They have no common parent but Exception (opendal 0.47).
_ERRORS = tuple(kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception))


class FileConnector(Lacking):
    """Any service of opendal. `scheme` and `_configuration` are what differs."""

    scheme = ""
    parallel = 4  # most of the time of a small file is waiting for its first byte
    abilities = frozenset({FILES})

    def __init__(self, name: str, options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.name, self._options, self._secrets = name, dict(options), dict(secrets)
        with self._errors(""):
            operator = opendal.Operator(self.scheme, **self._configuration())
            operator = operator.layer(layers.TimeoutLayer(timeout=_TIMEOUT_SECONDS, io_timeout=_TIMEOUT_SECONDS))
            self._operator = operator.layer(layers.RetryLayer(max_times=_RETRIES))

    def test(self) -> str:
        found, more = 0, ""
        with self._errors(""):
            for entry in self._entries(""):
                if entry.metadata.is_file:
                    found += 1
                if found >= _LOOK:
                    more = " or more"
                    break
        return f"{found:,}{more} files are there."

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        path = path.strip("/")
        if path:
            single = self._single(path)
            if single is not None:
                yield single
                return
        count = 0
        with self._errors(path):
            for entry in self._entries(path + "/" if path else ""):
                if entry.metadata.is_file:
                    count += 1
                    yield _remote(entry.path, entry.metadata)
        if path and not count:
            raise gone(self.name, f"files below {path!r}")

    def stat(self, path: str) -> RemoteFile:
        with self._errors(path):
            return _remote(path, self._operator.stat(path))

    @contextmanager
    def open(self, path: str) -> Iterator[RemoteStream]:
        with self._errors(path):
            with self._operator.open(path, "rb") as stream:
                yield cast(RemoteStream, stream)

    def _entries(self, folder: str) -> Iterator[Any]:
        """Everything below `folder`. Through the asynchronous operator: the other's list holds Python's lock while it waits
        for the server, and all threads of the process with it (opendal 0.47)."""

        async def some(entries: Any) -> list[Any]:
            return [entry async for _, entry in _counted(entries)]

        loop = asyncio.new_event_loop()
        try:
            entries = loop.run_until_complete(_begin(self._operator.to_async_operator(), folder))
            while page := loop.run_until_complete(some(entries)):
                yield from page
        finally:
            loop.close()

    def _single(self, path: str) -> RemoteFile | None:
        with self._errors(path):
            try:
                metadata = self._operator.stat(path)
            except (exceptions.NotFound, exceptions.IsADirectory):
                return None
            return _remote(path, metadata) if metadata.is_file else None

    def _configuration(self) -> dict[str, str]:
        return self._options

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Errors of the service as ours, without secrets."""
        try:
            yield
        except NarfError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise  # our own disk, in the body of the with-statement
            raise self._of_stream(str(error), path) from error
        except exceptions.NotFound as error:
            raise gone(self.name, f"file or folder {path!r}" if path else self._place()) from error
        except exceptions.PermissionDenied as error:
            raise refused(self.name, self._said(error)) from error
        except exceptions.ConfigInvalid as error:
            if "NoSuchBucket" in str(error):
                raise gone(self.name, self._place()) from error
            raise BadInput(f"The source {self.name!r} is set up wrongly: {self._said(error)}", remedy="Correct its options.") from error
        except _ERRORS as error:
            if "status: 401" in str(error):  # of a web server, which opendal has no word for
                raise refused(self.name, "it answers 401, not authorised.") from error
            raise unreachable(self.name, self._said(error)) from error

    def _of_stream(self, said: str, path: str) -> NarfError:
        """Streams say everything as OSError; what it was is the first word."""
        if said.startswith("NotFound"):
            return gone(self.name, f"file {path!r}")
        if said.startswith("PermissionDenied"):
            return refused(self.name, self._said(OSError(said)))
        return unreachable(self.name, self._said(OSError(said)))

    def _said(self, error: Exception) -> str:
        """What a person needs of opendal's long message."""
        text = scrubbed(str(error), self._secrets)
        if worded := _WORDED.search(text):
            return worded[1][:300].rstrip(".") + "."
        message = text.split("=> ", 1)[-1].splitlines()[0] if "=> " in text else text.splitlines()[0]
        source = [line.strip() for line in text.splitlines() if "error sending request" in line or "onnect" in line or "dns" in line]
        return (source[-1] if source else message)[:300].rstrip(".") + "."

    def _place(self) -> str:
        return f"{self.scheme} folder {self._options.get('root', '/')!r}"


class S3Connector(FileConnector):
    """AWS, or any server that speaks its protocol when `endpoint` is given."""

    scheme = "s3"

    def _configuration(self) -> dict[str, str]:
        return s3_configuration(self._options)

    def _place(self) -> str:
        return f"bucket {self._options['bucket']!r}"


class WebHdfsConnector(FileConnector):
    scheme = "webhdfs"


class HttpConnector(FileConnector):
    """A web server. It cannot list: a selection names one file."""

    scheme = "http"

    def test(self) -> str:
        silent: tuple[type[Exception], ...] = (exceptions.NotFound, exceptions.IsADirectory)
        if not any(self._options.get(option) for option in ("username", "password", "token")):
            silent = (*silent, exceptions.PermissionDenied)  # many forbid what is not there
        with self._errors(""), suppress(*silent):
            self._operator.stat("robots.txt")  # any file: that it answers is all that can be asked. (The root is not asked for at all.)
        return "The server answers. Name a file to see it."

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        if not path.strip("/"):
            raise BadInput(f"The source {self.name!r} cannot list its files.", remedy="Name a file with --path.", code="wrong_selection")
        for one in path.split(","):
            yield self.stat(one.strip().strip("/"))


class GcsConnector(FileConnector):
    scheme = "gcs"


class AzureConnector(FileConnector):
    scheme = "azblob"


def s3_configuration(options: Mapping[str, str]) -> dict[str, str]:
    """The options of an S3 source as opendal takes them."""
    kept = {
        name: options[name]
        for name in ("bucket", "endpoint", "root", "access_key_id", "secret_access_key", "session_token")
        if options.get(name)
    }
    path_style = options.get("path_style", "true" if options.get("endpoint") else "false")
    return kept | {
        "region": options.get("region") or "us-east-1",
        "enable_virtual_host_style": "false" if path_style == "true" else "true",
        **({"allow_anonymous": "true", "skip_signature": "true"} if options.get("anonymous") == "true" else {}),
        **({"disable_config_load": "true", "disable_ec2_metadata": "true"} if options.get("access_key_id") else {}),
    }


def s3_file_io(options: Mapping[str, str]) -> dict[str, str]:
    """The same options as pyiceberg's FileIO takes them: one definition serves files and tables."""
    names = {
        "endpoint": "s3.endpoint",
        "region": "s3.region",
        "access_key_id": "s3.access-key-id",
        "secret_access_key": "s3.secret-access-key",
        "session_token": "s3.session-token",
    }
    found = {theirs: options[ours] for ours, theirs in names.items() if options.get(ours)}
    path_style = options.get("path_style", "true" if options.get("endpoint") else "false")
    return found | {"s3.region": options.get("region") or "us-east-1", "s3.force-virtual-addressing": str(path_style != "true").lower()}


async def _begin(operator: Any, folder: str) -> Any:
    return aiter(await operator.list(folder, recursive=True))


async def _counted(entries: Any) -> AsyncIterator[tuple[int, Any]]:
    """The next entries, not so many that somebody waits long for the first."""
    for number in range(_LOOK):
        try:
            yield number, await anext(entries)
        except StopAsyncIteration:
            return


def _remote(path: str, metadata: Any) -> RemoteFile:
    modified = metadata.last_modified
    mark = metadata.etag or (modified.isoformat() if modified else "")
    return RemoteFile(path, metadata.content_length or 0, mark, modified)
