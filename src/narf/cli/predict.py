"""`narf predict`: ask an endpoint, or run a model over a whole file as a workload."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from narf.cli import output
from narf.client.connection import Connection, connect, default_project
from narf.domain.errors import BadInput, NarfError, Unavailable

predict = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
_BATCH_ROWS = 256


@predict.command(
    epilog="Example: narf predict digits --input rows.json      narf predict --model digits@champion --input data.parquet --output out.parquet"
)
def predict_(
    endpoint: Annotated[str, typer.Argument(help="An endpoint; leave it out with --model.")] = "",
    file: Annotated[
        Path | None, typer.Option("--input", help="Rows: .json, .npy, .csv or .parquet; '-' is JSON on standard input.")
    ] = None,
    model: Annotated[str, typer.Option(help="MODEL@ALIAS or MODEL/VERSION: predict a whole file in a workload.")] = "",
    to: Annotated[
        Path | None, typer.Option("--output", help="File for the predictions: .parquet, .csv or .json; standard output when not given.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="With --model: show progress until it ends.")] = True,
    cpu: Annotated[float, typer.Option(min=0.1, help="With --model: CPUs of the workload.")] = 1.0,
    project: Annotated[str, typer.Option(help="Project; NARF_PROJECT or 'default' when not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict: a few rows by an endpoint, or a whole file by a model."""
    if file is None or bool(endpoint) == bool(model):
        raise BadInput("Name an endpoint or --model, and rows with --input.", remedy="narf predict ENDPOINT --input FILE", field="input")
    with connect() as connection:
        if model:
            raise typer.Exit(
                _in_workload(connection, project or default_project(), model, file, to, cpu=cpu, follow=follow, as_json=as_json)
            )
        _by_endpoint(connection, endpoint, file, to, as_json=as_json)


def _by_endpoint(connection: Connection, name: str, file: Path, to: Path | None, *, as_json: bool) -> None:
    found = connection.get(f"/api/v1/endpoints/{name}")
    rows = _read(file)
    url = f"{found['url']}/predict"
    answers = []
    with httpx.Client(timeout=120, headers={"Authorization": f"Bearer {connection.token}"}, trust_env=False) as client:
        for part in _parts(rows):
            try:
                response = client.post(url, content=json.dumps(part), headers={"content-type": "application/json"})
            except httpx.TransportError as error:
                raise Unavailable(f"The gateway at {url} does not answer: {error}.") from error
            if not response.is_success:
                raise _error(response)
            answers.append(response.json())
    result = {**answers[0], "outputs": {key: [v for a in answers for v in a["outputs"][key]] for key in answers[0]["outputs"]}}
    if to is not None:
        _write(result["outputs"], to)
        output.say(f"{len(next(iter(result['outputs'].values())))} rows to {to}")
    elif as_json:
        output.print_json(result)
    else:
        for row in zip(*result["outputs"].values(), strict=True):
            print(json.dumps(row[0] if len(row) == 1 else dict(zip(result["outputs"], row, strict=True))))
        output.say(f"{result['model']}/{result['version']}   trace it: narf trace {result['id']}")


def _in_workload(
    connection: Connection, project: str, model: str, file: Path, to: Path | None, *, cpu: float, follow: bool, as_json: bool
) -> int:
    """Submit the batch prediction. Files are paths on a disk that the workload reaches, too."""
    from narf.cli.models import version_path
    from narf.cli.run import wait_and_follow

    if to is None:
        raise BadInput("A whole file needs a file for its predictions.", remedy="Name it with --output.", field="output")
    if not file.exists():
        raise BadInput(f"There is no file {file}.", field="input")
    path = version_path(connection, f"/api/v1/projects/{project}/models", model)
    body = {"input": str(file.absolute()), "output": str(to.absolute()), "cpu": cpu}
    submitted = connection.post(f"{path}/predict-file", body)
    if not follow:
        output.print_json(submitted) if as_json else print(submitted["workload_id"])
        return 0
    return wait_and_follow(connection, submitted, as_json=as_json)


def _read(file: Path) -> dict[str, Any]:
    """The body of a request: {"inputs": ...} or a table."""
    if str(file) == "-" or file.suffix == ".json":
        text = sys.stdin.read() if str(file) == "-" else _text(file)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise BadInput(f"{file} is not JSON: {error}.", field="input") from None
        return (
            value
            if isinstance(value, dict) and {"inputs", "instances", "dataframe_split", "dataframe_records"} & value.keys()
            else {"inputs": value}
        )
    if file.suffix == ".npy":
        import numpy

        try:
            return {"inputs": numpy.load(file, allow_pickle=False).tolist()}
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} cannot be read: {error}.", field="input") from None
    if file.suffix in (".csv", ".parquet"):
        try:
            import polars
        except ImportError:
            raise BadInput(f"{file.suffix} files need polars.", remedy="pip install 'narf[data]'", field="input") from None
        try:
            frame = polars.read_parquet(file) if file.suffix == ".parquet" else polars.read_csv(file)
        except (OSError, polars.exceptions.PolarsError) as error:
            raise BadInput(f"{file} cannot be read: {error}.", field="input") from None
        return {"dataframe_split": {"columns": frame.columns, "data": [list(row) for row in frame.rows()]}}
    raise BadInput(f"{file.name} has no form that is known.", remedy="Use .json, .npy, .csv or .parquet.", field="input")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}.", field="input") from None


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Large inputs as several requests."""
    rows = body.get("inputs")
    if isinstance(rows, list) and len(rows) > _BATCH_ROWS and isinstance(rows[0], list):
        return [{"inputs": rows[start : start + _BATCH_ROWS]} for start in range(0, len(rows), _BATCH_ROWS)]
    split = body.get("dataframe_split")
    if isinstance(split, dict) and len(split.get("data", ())) > _BATCH_ROWS:
        return [
            {"dataframe_split": {**split, "data": split["data"][start : start + _BATCH_ROWS]}}
            for start in range(0, len(split["data"]), _BATCH_ROWS)
        ]
    return [body]


def _write(outputs: dict[str, list[Any]], to: Path) -> None:
    if to.suffix == ".json":
        to.write_text(json.dumps(outputs) + "\n", encoding="utf-8")
        return
    if to.suffix not in (".csv", ".parquet"):
        raise BadInput(f"{to.name} has no form that is known.", remedy="Use .json, .csv or .parquet.", field="output")
    import polars

    flat: dict[str, list[Any]] = {}
    for name, values in outputs.items():
        if values and isinstance(values[0], list) and to.suffix == ".csv":
            flat |= {f"{name}_{index}": list(column) for index, column in enumerate(zip(*values, strict=True))}
        else:
            flat[name] = values
    frame = polars.DataFrame(flat)
    frame.write_csv(to) if to.suffix == ".csv" else frame.write_parquet(to)


def _error(response: httpx.Response) -> NarfError:
    try:
        body = response.json()
    except ValueError:
        body = {}
    kind = BadInput if response.status_code < 500 else NarfError
    return kind(
        str(body.get("detail") or f"The endpoint answered {response.status_code}."),
        remedy=str(body.get("remedy", "")),
        code=body.get("code") or None,
    )
