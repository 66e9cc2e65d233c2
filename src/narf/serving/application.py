"""The replica's application: routes requests to models, in the three forms callers speak, and answers errors as each form says."""

from __future__ import annotations

import gzip
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson

import narf
from narf.domain.errors import BadInput, LimitReached, NarfError, NotFound, Unavailable
from narf.serving.http.message import JSON, Request, Response, json_response, problem
from narf.serving.identity import Identities, is_valid
from narf.serving.model import ModelFailed, Prediction, ServedModel, TooLate
from narf.serving.protocol.invocations import predictions, read_invocation
from narf.serving.protocol.v2 import HEADER_LENGTH, Schema, Writer, read_request
from narf.serving.records import Recorder
from narf.serving.tensors import Tensors

_log = logging.getLogger(__name__)
PREDICTION = b"narf-prediction"  # header with the id, in requests (from the gateway) and in responses
TIMEOUT = b"narf-timeout-ms"
_MOST_UNPACKED = 64 << 20
_STATUS = {ModelFailed: 500, TooLate: 504, NotFound: 404, LimitReached: 429, Unavailable: 503}

Handler = Callable[[Request], None]


class Served:
    """A model with everything its routes need."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.schema = Schema(model.manifest)
        self.writer = Writer(model.name, model.version, self.schema.outputs)
        self.recorder = Recorder(model.manifest)
        model.observe = self.recorder.observe


class ReplicaApplication:
    """Called with each request on the event loop; every answer comes through `request.reply`."""

    def __init__(self, models: Sequence[ServedModel], *, revision: str = "", default_timeout_seconds: float = 30.0) -> None:
        self.models = {model.name: Served(model) for model in models}
        self.is_draining = False
        self._timeout = default_timeout_seconds
        self._identities = Identities()
        self._revision_header = b"narf-revision: %s\r\n" % revision.encode() if revision else b""
        self._routes: dict[tuple[bytes, bytes], Handler] = {}
        self._static: dict[bytes, Callable[[], Response]] = {
            b"/v2": self._server,
            b"/v2/health/live": lambda: json_response(200, {"live": True}),
            b"/v2/health/ready": self._ready,
            b"/v2/repository/index": self._index,
            b"/ping": self._ready,
            b"/health": self._ready,
            b"/healthz": lambda: json_response(200, {"live": True}),
            b"/readyz": self._ready,
            b"/version": lambda: Response(200, narf.__version__.encode(), b"text/plain"),
            b"/openapi.json": self._openapi,
            b"/metrics": self._metrics,
        }
        for served in self.models.values():
            self._add_routes(served, b"/models/" + served.model.name.encode())
            if len(self.models) == 1:
                self._add_routes(served, b"")

    def _add_routes(self, served: Served, prefix: bytes) -> None:
        name, version = served.model.name.encode(), served.model.version.encode()
        for path in (b"/v2/models/%s" % name, b"/v2/models/%s/versions/%s" % (name, version)):
            self._routes[b"POST", path + b"/infer"] = lambda request: self._infer(served, request)
            self._static[path] = lambda: self._metadata(served)
            self._static[path + b"/ready"] = lambda: self._model_ready(served)
        self._routes[b"POST", prefix + b"/invocations"] = lambda request: self._invoke(served, request)
        self._routes[b"POST", prefix + b"/predict"] = lambda request: self._predict(served, request)

    def __call__(self, request: Request) -> None:
        try:
            handler = self._routes.get((request.method, request.path))
            if handler is not None:
                if b"content-encoding" in request.headers:
                    request.body = _unpacked(request.body, request.headers[b"content-encoding"])
                handler(request)
                return
            static = self._static.get(request.path if len(request.path) == 1 else request.path.rstrip(b"/"))
            if static is not None and request.method in (b"GET", b"HEAD"):
                request.reply(static())
            else:
                request.reply(self._unknown(request))
        except NarfError as error:
            request.reply(_error(error))
        except Exception:  # the edge of the process: a mistake of ours fails one request, not the replica
            _log.exception("request %s %s failed", request.method, request.path)
            request.reply(problem(500, "The replica failed on this request.", remedy="Its traceback is in the replica's log."))

    # -- predictions

    def _infer(self, served: Served, request: Request) -> None:
        served.model.refuse_if_full(1, self._timeout_of(request))
        asked = read_request(request.body, request.headers, served.schema)
        prediction_id = self._identify(request)
        quoted = b'"%s"' % prediction_id if asked.id is None else orjson.dumps(asked.id)

        def done(prediction: Prediction, result: Tensors | NarfError) -> None:
            if isinstance(result, NarfError):
                request.reply(_error(result, self._headers(prediction_id)))
                return
            headers = self._headers(prediction_id)
            outputs = result if asked.outputs is None else {name: result[name] for name, _ in asked.outputs}
            binary = dict(asked.outputs) if asked.outputs is not None else dict.fromkeys(outputs, asked.binary)
            if any(binary.values()):
                body, length = served.writer.write_binary(outputs, quoted, binary)
                line = b"%s: %d\r\n" % (HEADER_LENGTH.title(), length)
                request.reply(Response(200, body, b"application/octet-stream", headers + line))
            else:
                request.reply(Response(200, served.writer.write(outputs, quoted), JSON, headers))

        self._submit(served, request, asked.inputs, asked.rows, prediction_id, done, asked.timeout_seconds)

    def _invoke(self, served: Served, request: Request) -> None:
        served.model.refuse_if_full(1, self._timeout_of(request))
        inputs, rows = read_invocation(request.body, request.headers.get(b"content-type", b""), served.schema)
        self._answer_plain(served, request, inputs, rows, lambda outputs, _: {"predictions": predictions(outputs)})

    def _predict(self, served: Served, request: Request) -> None:
        served.model.refuse_if_full(1, self._timeout_of(request))
        inputs, rows = read_invocation(request.body, request.headers.get(b"content-type", b""), served.schema)

        def shown(outputs: Tensors, prediction_id: bytes) -> Any:
            values = {name: array.tolist() for name, array in outputs.items()}
            return {"id": prediction_id.decode(), "model": served.model.name, "version": served.model.version, "outputs": values}

        self._answer_plain(served, request, inputs, rows, shown)

    def _answer_plain(self, served: Served, request: Request, inputs: Tensors, rows: int, shown: Callable[[Tensors, bytes], Any]) -> None:
        prediction_id = self._identify(request)

        def done(prediction: Prediction, result: Tensors | NarfError) -> None:
            headers = self._headers(prediction_id)
            request.reply(
                _error(result, headers) if isinstance(result, NarfError) else json_response(200, shown(result, prediction_id), headers)
            )

        self._submit(served, request, inputs, rows, prediction_id, done, None)

    def _submit(
        self,
        served: Served,
        request: Request,
        inputs: Tensors,
        rows: int,
        prediction_id: bytes,
        done: Callable[[Prediction, Tensors | NarfError], None],
        timeout: float | None,
    ) -> None:
        # Only models with free inner dimensions can meet two shapes; the others all stack.
        key = tuple(array.shape[1:] for array in inputs.values()) if served.model.has_free_shape else None
        if len(inputs) > 1:
            inputs = {name: inputs[name] for name in served.schema.inputs}
        prediction = Prediction(inputs, rows, key, time.monotonic() + (timeout or self._timeout_of(request)), done, prediction_id)
        served.model.submit(prediction)

        def gone() -> None:
            prediction.cancelled = True

        request.on_gone = gone

    def _timeout_of(self, request: Request) -> float:
        text = request.headers.get(TIMEOUT)
        if text is None:
            return self._timeout
        if not text.isdigit() or not 0 < int(text[:12]) <= 3_600_000:
            raise BadInput(
                f"narf-timeout-ms is {text[:20].decode('latin-1')!r}.",
                remedy="Give milliseconds, from 1 to 3600000.",
                field="narf-timeout-ms",
            )
        return int(text) / 1e3

    def _identify(self, request: Request) -> bytes:
        given = request.headers.get(PREDICTION)
        return given if given is not None and is_valid(given) else self._identities.new()

    def _headers(self, prediction_id: bytes) -> bytes:
        return b"narf-prediction: %s\r\n%s" % (prediction_id, self._revision_header)

    # -- about the server and its models

    def _server(self) -> Response:
        return json_response(200, {"name": "narf", "version": narf.__version__, "extensions": ["binary_tensor_data", "model_repository"]})

    def _ready(self) -> Response:
        is_ready = not self.is_draining and all(served.model.is_ready for served in self.models.values())
        return json_response(200 if is_ready else 503, {"ready": is_ready})

    def _model_ready(self, served: Served) -> Response:
        is_ready = served.model.is_ready and not self.is_draining
        return json_response(200 if is_ready else 503, {"name": served.model.name, "ready": is_ready})

    def _metadata(self, served: Served) -> Response:
        manifest = served.model.manifest
        platform = {"onnx": "onnxruntime_onnx", "torchscript": "pytorch_torchscript", "torch": "pytorch", "pyfunc": "mlflow_pyfunc"}[
            manifest.runtime
        ]
        return json_response(
            200,
            {
                "name": served.model.name,
                "versions": [served.model.version],
                "platform": platform,
                "inputs": [spec.as_json() for spec in manifest.caller_inputs],
                "outputs": [spec.as_json() for spec in manifest.caller_outputs],
            },
        )

    def _index(self) -> Response:
        values = [
            {"name": name, "version": served.model.version, "state": "READY" if served.model.is_ready else "UNAVAILABLE"}
            for name, served in self.models.items()
        ]
        return json_response(200, values)

    def _openapi(self) -> Response:
        from narf.serving.openapi import document

        return json_response(200, document({name: served.model.manifest for name, served in self.models.items()}))

    def _metrics(self) -> Response:
        from narf.serving.metrics import replica_metrics

        return Response(200, replica_metrics([served.model for served in self.models.values()]).encode(), b"text/plain; version=0.0.4")

    def _unknown(self, request: Request) -> Response:
        path = request.path.rstrip(b"/")
        if path in self._static or any(known == path for _, known in self._routes):
            methods = "GET, HEAD" if path in self._static else "POST"
            return problem(
                405,
                f"{request.method[:20].decode('ascii', 'replace')} is not for this address.",
                code="bad_method",
                headers={"allow": methods},
            )
        return _error(self._not_found(path.split(b"/")))

    def _not_found(self, parts: list[bytes]) -> NotFound:
        known = ", ".join(self.models) or "none"
        if len(parts) > 3 and parts[1:3] == [b"v2", b"models"]:
            name = parts[3].decode("utf-8", "replace")
            if name not in self.models:
                return NotFound("model", name, remedy=f"Here are: {known}.")
            if len(parts) > 5 and parts[4] == b"versions":
                version = parts[5].decode("utf-8", "replace")
                if version != self.models[name].model.version:
                    return NotFound("version", f"{name}/{version}", remedy=f"Here is version {self.models[name].model.version}.")
        return NotFound("address", b"/".join(parts).decode("utf-8", "replace"), remedy="See /openapi.json.")


def _unpacked(body: bytes, encoding: bytes) -> bytes:
    """A gzip or deflate body, never more than a bound: a small body can hold a large one."""
    if encoding.strip().lower() in (b"", b"identity"):
        return body
    if encoding.strip().lower() not in (b"gzip", b"deflate"):
        raise BadInput(
            f"Content-Encoding {encoding[:20].decode('latin-1')!r} is not known.", remedy="Use gzip, deflate or none.", code="bad_encoding"
        )
    try:
        unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, told apart by the header
        data = unpacker.decompress(body, _MOST_UNPACKED)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"The body cannot be unpacked: {error}.", code="bad_encoding") from None
    if unpacker.unconsumed_tail:
        raise BadInput(f"The body is larger than {_MOST_UNPACKED} bytes when unpacked.", remedy="Send fewer rows.", code="too_large")
    if not unpacker.eof:
        raise BadInput("The packed body ends too early.", code="bad_encoding")
    return data


def _error(error: NarfError, headers: bytes = b"") -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400 if isinstance(error, BadInput) else 500)
    if error.code == "too_large":
        status = 413
    extra: Mapping[str, str] = {}
    if isinstance(error, LimitReached):
        extra = {"retry-after": str(max(1, round(error.retry_after_seconds or 1)))}
    elif isinstance(error, Unavailable):
        extra = {"retry-after": "1"}
    response = problem(HTTPStatus(status).value, error.sentence, remedy=error.remedy, code=error.code, headers=extra)
    response.headers += headers
    return response
