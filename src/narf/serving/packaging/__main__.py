"""`python -m narf.serving.packaging MODEL --out FOLDER`: package a model for serving, in a process of its own.

MODEL is a file or a folder, or `runs:/RUN/PATH` and the like, which is downloaded from the tracking server first.
The manifest is printed as JSON; errors are one sentence on the error output and exit code 1 (2: wrong usage).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from narf.domain.errors import BadInput, NarfError
from narf.serving.package import RUNTIMES, as_json
from narf.serving.packaging.agreement import Tolerance


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    _use_the_platforms_tracking()
    try:
        manifest = _package(options)
        if options.upload:
            from narf.serving.packaging.upload import send_package

            send_package(options.out, options.upload, os.environ.get("NARF_TOKEN", ""))
    except NarfError as error:
        print(f"narf: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        if options.upload:
            from narf.serving.packaging.upload import send_failure

            send_failure(str(error), options.upload, os.environ.get("NARF_TOKEN", ""))
        return 1
    # In a workload the platform has the manifest, and the log is for people.
    print(manifest["evidence"]["because"] if options.upload else json.dumps(manifest, allow_nan=False))  # noqa: T201
    return 0


def _use_the_platforms_tracking() -> None:
    """Inside a workload, MLflow's client reads from the platform, in the workload's project."""
    if os.environ.get("NARF_URL"):
        os.environ.setdefault("MLFLOW_TRACKING_URI", os.environ["NARF_URL"])
        os.environ.setdefault("MLFLOW_TRACKING_TOKEN", os.environ.get("NARF_TOKEN", ""))
        os.environ.setdefault("MLFLOW_WORKSPACE", os.environ.get("NARF_PROJECT", "default"))


def _package(options: argparse.Namespace) -> dict[str, Any]:
    from narf.serving.packaging.build import Request, build
    from narf.serving.packaging.inputs import read_inputs
    from narf.serving.packaging.original import open_original

    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    with tempfile.TemporaryDirectory(prefix="narf-model-") as scratch:
        path = _local(options.model, Path(scratch))
        original = open_original(path, class_name=options.class_name, script=options.script, arguments=options.argument)
        if options.script is not None and options.code is None:
            options.code = options.script.parent
        original.extra["code"] = options.code
        names = original.extra.get("names") or [spec.name for spec in original.inputs]
        if options.inputs_artifact:
            (Path(scratch) / "inputs").mkdir()
            options.inputs = _local(options.inputs_artifact, Path(scratch) / "inputs")
        if options.inputs is not None:
            original.samples, original.samples_are_real = read_inputs(options.inputs, names, original.columns), True
        training = read_inputs(options.training_data, names, original.columns) if options.training_data else None
        processing, _, processing_name = options.processing.partition(":")
        request = Request(
            name=options.name,
            version=options.version,
            tolerance=Tolerance(options.absolute_tolerance, options.relative_tolerance),
            only=options.only,
            processing=Path(processing) if processing else None,
            processing_name=processing_name,
            training_data=training,
            weigh=True,
        )
        return as_json(build(original, options.out, request, tell=lambda text: print(text, file=sys.stderr, flush=True)))  # noqa: T201


def _local(model: str, scratch: Path) -> Path:
    if "://" not in model and ":/" not in model:
        return Path(model)
    import mlflow.artifacts

    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=model, dst_path=str(scratch)))
    except Exception as error:  # mlflow raises its own types, requests' and the store's
        raise BadInput(f"{model} cannot be downloaded: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m narf.serving.packaging", description="Package a model for serving.")
    parser.add_argument("model", help="file, MLflow model folder, or URI")
    parser.add_argument("--out", type=Path, required=True, help="folder for the package")
    parser.add_argument("--name", default="model")
    parser.add_argument("--version", default="1")
    parser.add_argument("--class", dest="class_name", default="", help="file.py:Class of a checkpoint")
    parser.add_argument("--script", type=Path, help="training script of a checkpoint, run up to Trainer.fit")
    parser.add_argument("--argument", action="append", default=[], help="one argument of the script; repeat")
    parser.add_argument("--code", type=Path, help="folder that a pickled module imports from")
    parser.add_argument("--inputs", type=Path, help="real inputs: .npy, .npz, .json, .csv, .parquet")
    parser.add_argument("--inputs-artifact", default="", help="the same, as runs:/RUN/PATH")
    parser.add_argument("--upload", default="", help="URL to send the package, or the reason that there is none, to")
    parser.add_argument("--training-data", type=Path, help="rows to compare live inputs with (drift)")
    parser.add_argument("--processing", default="", help="file.py or file.py:Class with preprocess and postprocess")
    parser.add_argument("--absolute-tolerance", type=float, default=1e-5)
    parser.add_argument("--relative-tolerance", type=float, default=1e-4)
    parser.add_argument("--only", choices=["", *RUNTIMES], default="")
    return parser


if __name__ == "__main__":
    sys.exit(main())
