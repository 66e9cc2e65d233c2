"""A serving package: a folder with one model in one runtime's format, and `package.json` that says what it is and why.

The manifest carries the model's signature, the evidence that led to this runtime (each candidate, how well it agreed
with the original and how fast it was) and what the training data looked like, for watching drift.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from narf.domain.errors import BadInput
from narf.serving.tensors import TensorSpec

MANIFEST = "package.json"
FORMAT = 1
RUNTIMES = ("onnx", "torchscript", "torch", "pyfunc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run the model, and what was measured of it.

    worst: the largest difference from the original in units of the tolerance (at most 1 agrees); None: it did not run.
    refused: why it cannot be used, "" when it can.
    """

    runtime: str
    worst: float | None = None
    max_abs_error: float | None = None
    milliseconds_one: float | None = None
    milliseconds_batch: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why this runtime was chosen. inputs: where the inputs that were compared came from ("real" or "synthetic")."""

    original: str
    inputs: str
    rows: int
    cases: tuple[str, ...]
    absolute_tolerance: float
    relative_tolerance: float
    batch_rows: int
    candidates: tuple[Candidate, ...]
    chosen: str
    because: str
    memory_bytes: int | None = None  # what the chosen one takes with its largest batch; None: it was not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `package.json` says.

    file: the model, below the package's folder. columns: names of the features in a single two-dimensional input, in
    order, where the model was trained on a table. processing: "file.py:Name" with the user's own pre- and post-processing.
    public_inputs, public_outputs: what callers see, where processing changes it.
    """

    runtime: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    name: str = "model"
    version: str = "1"
    columns: tuple[str, ...] = ()
    processing: str = ""
    public_inputs: tuple[TensorSpec, ...] = ()
    public_outputs: tuple[TensorSpec, ...] = ()
    batchable: bool = True
    evidence: Evidence | None = None
    reference: Mapping[str, Any] = field(default_factory=dict)  # narf.serving.drift.Reference, as JSON
    format: int = FORMAT

    @property
    def caller_inputs(self) -> tuple[TensorSpec, ...]:
        return self.public_inputs or self.inputs

    @property
    def caller_outputs(self) -> tuple[TensorSpec, ...]:
        return self.public_outputs or self.outputs


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `package.json` whole or not at all. It is written last, so a folder that has one is complete."""
    temporary = folder / (MANIFEST + ".tmp")
    temporary.write_text(json.dumps(as_json(manifest), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the package in `folder`.

    Raises:
        BadInput: there is none, it is not whole, or it was made by a newer Narf.
    """
    path = folder / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise BadInput(f"{path} has format {value['format']}; this version reads format {FORMAT}.", remedy="Package the model again.")
        manifest = from_json(value)
    except FileNotFoundError:
        raise BadInput(
            f"{folder} is not a serving package: it has no {MANIFEST}.", remedy="Make one: python -m narf.serving.packaging"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read: {error}.", remedy="Package the model again.") from None
    inside = (folder / manifest.file).resolve()
    if manifest.runtime not in RUNTIMES or not inside.is_relative_to(folder.resolve()) or not inside.exists():
        raise BadInput(f"{path} names a model that is not in the package.", remedy="Package the model again.")
    return manifest


def as_json(manifest: Manifest) -> dict[str, Any]:
    value = asdict(manifest)
    for key in ("inputs", "outputs", "public_inputs", "public_outputs"):
        value[key] = [spec.as_json() for spec in getattr(manifest, key)]
    value["reference"] = dict(manifest.reference)
    return value


def from_json(value: Mapping[str, Any]) -> Manifest:
    fields = dict(value)
    for key in ("inputs", "outputs", "public_inputs", "public_outputs"):
        fields[key] = tuple(TensorSpec.from_json(spec) for spec in fields.get(key, ()))
    fields["columns"] = tuple(fields.get("columns", ()))
    if evidence := fields.get("evidence"):
        candidates = tuple(Candidate(**candidate) for candidate in evidence["candidates"])
        fields["evidence"] = Evidence(**{**evidence, "cases": tuple(evidence["cases"]), "candidates": candidates})
    return Manifest(**fields)
