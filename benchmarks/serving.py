"""Serving one row of JSON: our replica and gateway beside a bare application and the serving frameworks, in one run.

    python benchmarks/serving.py                       ours and the bare application
    python benchmarks/serving.py --peers FOLDER        and each peer that has a virtual environment FOLDER/peer_NAME
                                                       (litserve, bentoml, mlserver, ray; mlflow is ours)

The model is an MLP 64-256-10. Every server answers the same request with the same numbers, which is checked first. The load is
wrk's, on this machine, at 1, 16 and 64 connections. Ours runs with ids, records and drift; the gateway with authorisation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

CONNECTIONS = (1, 16, 64)
ROW = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
V2_BODY = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 64], "data": ROW.ravel().tolist()}]})
PLAIN_BODY = json.dumps({"inputs": ROW.tolist()})

BARE = """
import numpy as np, onnxruntime as ort
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
options = ort.SessionOptions(); options.intra_op_num_threads = 1
session = ort.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
async def infer(request):
    body = await request.json()
    x = np.array(body["inputs"][0]["data"], dtype=np.float32).reshape(body["inputs"][0]["shape"])
    y = session.run(None, {{"input": x}})[0]
    return JSONResponse({{"outputs": [{{"name": "output", "datatype": "FP32", "shape": list(y.shape), "data": y.ravel().tolist()}}]}})
app = Starlette(routes=[Route("/infer", infer, methods=["POST"])])
"""
LITSERVE = """
import litserve, numpy as np, onnxruntime as ort
class Api(litserve.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions(); options.intra_op_num_threads = 1
        self.session = ort.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
    def decode_request(self, request): return np.array(request["inputs"], dtype=np.float32)
    def predict(self, x): return self.session.run(None, {{"input": x}})[0]
    def encode_response(self, y): return {{"outputs": y.tolist()}}
if __name__ == "__main__":
    litserve.LitServer(Api(), accelerator="cpu").run(host="127.0.0.1", port={port}, num_api_servers=1, generate_client_file=False, log_level="warning")
"""
BENTOML = """
import bentoml, numpy as np, onnxruntime as ort
@bentoml.service(workers=1)
class Mlp:
    def __init__(self):
        options = ort.SessionOptions(); options.intra_op_num_threads = 1
        self.session = ort.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
    @bentoml.api
    def predict(self, inputs: list[list[float]]) -> list[list[float]]:
        return self.session.run(None, {{"input": np.array(inputs, dtype=np.float32)}})[0].tolist()
"""
MLSERVER = """
import numpy as np, onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
class Mlp(MLModel):
    async def load(self):
        options = ort.SessionOptions(); options.intra_op_num_threads = 1
        self.session = ort.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
        return True
    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        y = self.session.run(None, {{"input": x}})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", y)])
"""


RAY_SERVE = """
import time
import numpy as np, onnxruntime as ort, ray
from ray import serve

@serve.deployment(num_replicas=1)
class Mlp:
    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession({model!r}, options)
    async def __call__(self, request):
        body = await request.json()
        return {{"outputs": self.session.run(None, {{"input": np.array(body["inputs"], dtype=np.float32)}})[0].tolist()}}

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={{"host": "127.0.0.1", "port": {port}}})
serve.run(Mlp.bind(), route_prefix="/predict")
while True:
    time.sleep(60)
"""


@dataclass(frozen=True)
class Target:
    name: str
    url: str
    body: str
    headers: dict[str, str]
    numbers: Callable[[Any], list[float]]
    groups: tuple[int, ...] = ()  # process groups of the servers, for their CPU time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder with virtual environments peer_NAME")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt install wrk")
    results: dict[str, dict[int, tuple[float, float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        expected = make_model(folder)
        for start in (replica, bare, gateway, *(peers(options.peers) if options.peers else ())):
            with ExitStack() as stack:
                try:
                    target = stack.enter_context(start(folder))
                except RuntimeError as error:
                    print(f"{error}")
                    continue
                np.testing.assert_allclose(target.numbers(ask(target)), expected, rtol=1e-4, atol=1e-5)
                results[target.name] = {count: load(target, count, options.seconds, folder) for count in CONNECTIONS}
                print(
                    target.name,
                    {
                        count: f"{rate:,.0f}/s p50 {p50:.2f} p99 {p99:.2f} ms, {cpu:.0f} µs CPU"
                        for count, (rate, p50, p99, cpu) in results[target.name].items()
                    },
                    flush=True,
                )
    report(results)


def report(results: dict[str, dict[int, tuple[float, float, float, float]]]) -> None:
    print(
        "\n| requests/s (p50 / p99 ms, CPU µs a request) | "
        + " | ".join(map(str, CONNECTIONS))
        + " |\n| --- " * 1
        + "| --- " * len(CONNECTIONS)
        + "|"
    )
    for name, cells in results.items():
        print(
            f"| {name} | " + " | ".join(f"{rate:,.0f} ({p50:.2f} / {p99:.2f}, {cpu:.0f})" for rate, p50, p99, cpu in cells.values()) + " |"
        )
    ours, plain, through = results["narf replica"], results["uvicorn + Starlette + ONNX Runtime"], results["narf gateway + replica"]
    print()
    for count in (16, 64):
        print(f"at {count} connections: {ours[count][0] / plain[count][0]:.2f} times the bare application (goal: 1)")
    print(f"at 1 connection: p50 {ours[1][1] / plain[1][1]:.2f} times the bare application's (goal: at most 1.5)")
    print(
        f"gateway: {max(through[16][0], through[64][0]):,.0f} requests/s (goal: 2,500), adds {through[1][1] - ours[1][1]:.2f} ms at p50 (goal: at most 1)"
    )
    peers_found = {
        name: cells
        for name, cells in results.items()
        if name not in ("narf replica", "narf gateway + replica", "uvicorn + Starlette + ONNX Runtime")
    }
    if peers_found:
        best = max(max(cells[16][0], cells[64][0]) for cells in peers_found.values())
        print(f"best peer: {best:,.0f} requests/s; ours is {max(ours[16][0], ours[64][0]) / best:.1f} times that (goal: 4)")
        quickest = min(cells[64][2] for cells in peers_found.values())
        print(f"p99 at 64 connections: {ours[64][2]:.1f} ms, the best peer's {quickest:.1f} ms")


def make_model(folder: Path) -> list[float]:
    """An ONNX file and a package of it; the answer to ROW."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from narf.serving.drift import reference_of
    from narf.serving.package import Manifest, write_manifest
    from narf.serving.tensors import TensorSpec

    rng = np.random.default_rng(1)
    weights = {"a": rng.normal(size=(64, 256)), "b": rng.normal(size=256), "c": rng.normal(size=(256, 10)) / 16, "d": rng.normal(size=10)}
    nodes = [
        helper.make_node("Gemm", ["input", "a", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "c", "d"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    package = folder / "package"
    package.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(package / "model.onnx"))
    reference = [feature.as_json() for feature in reference_of({"input": rng.normal(size=(2000, 64))})]
    write_manifest(
        package,
        Manifest(
            runtime="onnx",
            file="model.onnx",
            name="mlp",
            inputs=(TensorSpec("input", "FP32", (-1, 64)),),
            outputs=(TensorSpec("output", "FP32", (-1, 10)),),
            reference={"features": reference},
        ),
    )
    session = onnxruntime.InferenceSession(str(package / "model.onnx"), providers=["CPUExecutionProvider"])
    return [float(value) for value in session.run(None, {"input": ROW})[0].ravel()]


def v2_numbers(answer: Any) -> list[float]:
    return list(answer["outputs"][0]["data"])


@contextmanager
def process(arguments: list[str], ready: str, folder: Path, seconds: float = 60.0, **environment: str) -> Iterator[int]:
    """A server and its process group, until it answers at `ready`; ended afterwards."""
    log = folder / "server.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            arguments, stdout=output, stderr=output, env={**os.environ, **environment}, cwd=folder, start_new_session=True
        )
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(ready, timeout=2).close()
                break
            except urllib.error.HTTPError:
                break  # it answers
            except OSError:
                if running.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{arguments[0]} did not start: {log.read_text()[-300:]}") from None
                time.sleep(0.05)
        yield running.pid
    finally:
        import signal

        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@contextmanager
def replica(folder: Path, port: int = 18611) -> Iterator[Target]:
    arguments = [sys.executable, "-m", "narf.serving.replica", "--package", str(folder / "package"), "--port", str(port)]
    with process(arguments, f"http://127.0.0.1:{port}/v2/health/ready", folder) as group:
        yield Target("narf replica", f"http://127.0.0.1:{port}/v2/models/mlp/infer", V2_BODY, {}, v2_numbers, (group,))


@contextmanager
def bare(folder: Path, port: int = 18612) -> Iterator[Target]:
    (folder / "bare.py").write_text(BARE.format(model=str(folder / "package" / "model.onnx")))
    arguments = [sys.executable, "-m", "uvicorn", "bare:app", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    with process(arguments, f"http://127.0.0.1:{port}/", folder) as group:
        yield Target("uvicorn + Starlette + ONNX Runtime", f"http://127.0.0.1:{port}/infer", V2_BODY, {}, v2_numbers, (group,))


@contextmanager
def gateway(folder: Path, port: int = 18613) -> Iterator[Target]:
    """The gateway before one replica, with a control plane that knows one token."""
    table = {"id": "ep", "name": "mlp", "project": "p", "max_replicas": 1, "timeout_seconds": 30, "revisions": [
        {"id": "rev", "number": 1, "model": "mlp", "version": "1", "weight": 100, "replicas": [{"id": "wl", "url": "http://127.0.0.1:18611"}]}]}  # fmt: skip

    class Control(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if "caller" in self.path:
                self.answer({"user": "u", "roles": {"p": "developer"}, "projects": None})
                return
            if "known=1" in self.path:
                time.sleep(2)
            self.answer({"version": "1", "endpoints": [table]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer({})

        def log_message(self, *_: Any) -> None:
            pass

    control = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    control.daemon_threads = True
    threading.Thread(target=control.serve_forever, daemon=True).start()
    arguments = [sys.executable, "-m", "narf.serving.gateway", "--port", str(port)]
    try:
        environment = {"NARF_URL": f"http://127.0.0.1:{control.server_port}", "NARF_TOKEN": "t"}
        with replica(folder) as behind, process(arguments, f"http://127.0.0.1:{port}/readyz", folder, **environment) as group:
            time.sleep(0.5)
            url = f"http://127.0.0.1:{port}/endpoints/mlp/v2/models/mlp/infer"
            yield Target("narf gateway + replica", url, V2_BODY, {"Authorization": "Bearer token"}, v2_numbers, (group, *behind.groups))
    finally:
        control.shutdown()


def peers(folder: Path) -> Iterator[Callable[[Path], Any]]:
    known = {"litserve": litserve, "bentoml": bentoml, "mlserver": mlserver, "mlflow": mlflow, "ray": rayserve}
    for name, start in known.items():
        python = folder.absolute() / f"peer_{name}" / "bin" / "python"
        if name == "mlflow" and not python.exists():
            python = Path(sys.executable)
        if python.exists():
            yield lambda scratch, start=start, python=python: start(scratch, str(python))


@contextmanager
def litserve(folder: Path, python: str, port: int = 18614) -> Iterator[Target]:
    (folder / "lit.py").write_text(LITSERVE.format(model=str(folder / "package" / "model.onnx"), port=port))
    with process([python, "lit.py"], f"http://127.0.0.1:{port}/health", folder) as group:
        yield Target("LitServe", f"http://127.0.0.1:{port}/predict", PLAIN_BODY, {}, lambda answer: answer["outputs"][0], (group,))


@contextmanager
def bentoml(folder: Path, python: str, port: int = 18615) -> Iterator[Target]:
    (folder / "bento.py").write_text(BENTOML.format(model=str(folder / "package" / "model.onnx")))
    arguments = [python, "-m", "bentoml", "serve", "bento:Mlp", "--port", str(port)]
    with process(arguments, f"http://127.0.0.1:{port}/readyz", folder, BENTOML_DO_NOT_TRACK="True") as group:
        time.sleep(1)
        yield Target("BentoML", f"http://127.0.0.1:{port}/predict", PLAIN_BODY, {}, lambda answer: answer[0], (group,))


@contextmanager
def mlserver(folder: Path, python: str, port: int = 18616) -> Iterator[Target]:
    place = folder / "mlserver"
    place.mkdir()
    (place / "mlp_model.py").write_text(MLSERVER.format(model=str(folder / "package" / "model.onnx")))
    (place / "model-settings.json").write_text(json.dumps({"name": "mlp", "implementation": "mlp_model.Mlp"}))
    settings = {
        "http_port": port,
        "grpc_port": port + 100,
        "metrics_port": port + 200,
        "parallel_workers": 0,
        "debug": False,
        "host": "127.0.0.1",
    }
    (place / "settings.json").write_text(json.dumps(settings))
    with process(
        [python, "-c", "from mlserver.cli import main; main()", "start", str(place)], f"http://127.0.0.1:{port}/v2/models/mlp/ready", folder
    ) as group:
        time.sleep(1)
        yield Target("MLServer, in process", f"http://127.0.0.1:{port}/v2/models/mlp/infer", V2_BODY, {}, v2_numbers, (group,))


@contextmanager
def mlflow(folder: Path, python: str, port: int = 18617) -> Iterator[Target]:
    code = f"import mlflow.onnx, onnx; mlflow.onnx.save_model(onnx.load({str(folder / 'package' / 'model.onnx')!r}), 'mlflow_model')"
    subprocess.run([python, "-c", code], cwd=folder, check=True, capture_output=True)
    arguments = [
        python,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "mlflow_model",
        "--env-manager",
        "local",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    path = f"{Path(python).parent}:{os.environ.get('PATH', '')}"
    with process(arguments, f"http://127.0.0.1:{port}/ping", folder, PATH=path) as group:
        yield Target(
            "mlflow models serve",
            f"http://127.0.0.1:{port}/invocations",
            PLAIN_BODY,
            {},
            lambda answer: (
                next(iter(answer["predictions"].values()))[0] if isinstance(answer["predictions"], dict) else answer["predictions"][0]
            ),
            (group,),
        )


@contextmanager
def rayserve(folder: Path, python: str, port: int = 18618) -> Iterator[Target]:
    (folder / "rayserve.py").write_text(RAY_SERVE.format(model=str(folder / "package" / "model.onnx"), port=port))
    with process([python, "rayserve.py"], f"http://127.0.0.1:{port}/-/healthz", folder, RAY_AUTH_MODE="disabled") as group:
        time.sleep(1)
        yield Target("Ray Serve", f"http://127.0.0.1:{port}/predict", PLAIN_BODY, {}, lambda answer: answer["outputs"][0], (group,))


def ask(target: Target) -> Any:
    request = urllib.request.Request(target.url, target.body.encode(), {"content-type": "application/json", **target.headers})
    return json.load(urllib.request.urlopen(request, timeout=30))


def load(target: Target, connections: int, seconds: int, folder: Path) -> tuple[float, float, float, float]:
    """(requests/s, p50 ms, p99 ms, microseconds of the servers' CPU a request). Fails when an answer was not a success."""
    script = folder / "load.lua"
    headers = "".join(
        f'wrk.headers["{name}"]="{value}"\n' for name, value in ({"Content-Type": "application/json"} | target.headers).items()
    )
    script.write_text(f"wrk.method='POST'\n{headers}wrk.body=[==[{target.body}]==]\n")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), target.url]
    subprocess.run([*command[:3], "-d1s", *command[4:]], capture_output=True, check=True)
    before = cpu_seconds(target.groups)
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(target.groups) - before
    assert "Non-2xx" not in text, f"{target.name} failed under load: {text}"
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    if not used:
        used = float("nan")  # its workers are in a process group of their own
    answered = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    return rate, _milliseconds(text, "50"), _milliseconds(text, "99"), used / answered * 1e6


def cpu_seconds(groups: tuple[int, ...]) -> float:
    """Of all processes in these groups. Unlike a rate, it says what a server costs on a machine that does other things, too."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[2]) in groups:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _milliseconds(text: str, share: str) -> float:
    match = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", text)
    assert match is not None, text
    return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]]


if __name__ == "__main__":
    main()
