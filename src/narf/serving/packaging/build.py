"""Build a package: try every export, compare each with the original on real inputs and edge cases, measure, choose, write."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import BadInput
from narf.serving.drift import LEAST_REFERENCE_ROWS, reference_of
from narf.serving.package import Candidate, Evidence, Manifest, write_manifest
from narf.serving.packaging.agreement import Difference, Tolerance, choose, compare
from narf.serving.packaging.cases import cases, rows, synthetic
from narf.serving.packaging.export import CannotExport, attempts, export
from narf.serving.packaging.original import Original
from narf.serving.packaging.weigh import weighed
from narf.serving.runtimes import open_runtime
from narf.serving.runtimes.processing import load_processing, public_signature
from narf.serving.tensors import Tensors, TensorSpec, spec_of

BATCH_ROWS = 32
_MOST_SAMPLE_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to build. only: restrict to one runtime. training_data: rows for the drift reference, the samples when None."""

    name: str = "model"
    version: str = "1"
    tolerance: Tolerance = field(default_factory=Tolerance)
    only: str = ""
    processing: Path | None = None
    processing_name: str = ""
    training_data: Tensors | None = None
    measure_seconds: float = 0.25
    weigh: bool = False  # measure the memory, too, in a process of its own


def build(original: Original, folder: Path, request: Request, *, tell: Callable[[str], None] = lambda _: None) -> Manifest:
    """Write a package of `original` into `folder`, which must be empty or absent.

    Raises:
        BadInput: the original does not run on its own inputs, or the folder is taken.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty.", remedy="Choose another folder.", field="out")
    folder.mkdir(parents=True, exist_ok=True)
    samples, real = _samples(original)
    expected = _truth(original, samples)
    batchable = original.batchable and all(array.shape[:1] == (len(next(iter(samples.values()))),) for array in expected.values())
    inputs = tuple(_with_free(spec_of(name, array), original.inputs) for name, array in samples.items())
    outputs = tuple(spec_of(name, array) for name, array in expected.items())
    manifest = Manifest(
        runtime="pyfunc",
        file=".",
        inputs=inputs,
        outputs=outputs,
        name=request.name,
        version=request.version,
        columns=original.columns,
        batchable=batchable,
    )
    compared = [
        (name, case, _truth(original, case)) for name, case in cases(samples, batchable=batchable, only_real=original.kind == "pyfunc")
    ]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".packaging-") as scratch:
        tried: list[tuple[Candidate, Manifest, Path]] = []
        for runtime, file in attempts(original):
            if request.only and runtime != request.only:
                continue
            tell(f"trying {runtime}")
            place = Path(scratch) / runtime
            place.mkdir()
            attempt = replace(manifest, runtime=runtime, file=file)
            candidate, specs = _try(original, attempt, place, samples, compared, request)
            tell(_described(candidate))
            tried.append((candidate, replace(attempt, outputs=specs or outputs), place))
        if not any(not candidate.refused for candidate, _, _ in tried):
            reasons = "; ".join(f"{candidate.runtime}: {candidate.refused}" for candidate, _, _ in tried)
            raise BadInput(
                f"No runtime can serve this model ({reasons or f'{request.only} does not fit it'}).", remedy="Let narf choose the runtime."
            )
        chosen = choose([candidate for candidate, _, _ in tried])
        manifest, place = next((attempt, place) for candidate, attempt, place in tried if candidate is chosen)
        shutil.copytree(place, folder, dirs_exist_ok=True)
    evidence = Evidence(
        original=original.label,
        inputs="real" if real else "synthetic",
        rows=len(next(iter(samples.values()))),
        cases=tuple(name for name, _, _ in compared),
        absolute_tolerance=request.tolerance.absolute,
        relative_tolerance=request.tolerance.relative,
        batch_rows=BATCH_ROWS,
        candidates=tuple(candidate for candidate, _, _ in tried),
        chosen=chosen.runtime,
        because=_because(chosen, [candidate for candidate, _, _ in tried]),
    )
    manifest = replace(
        manifest, evidence=evidence, reference=_reference(request.training_data or (samples if real else {}), original.columns)
    )
    manifest = _with_processing(manifest, folder, request)
    write_manifest(folder, manifest)
    if request.weigh:
        manifest = replace(manifest, evidence=replace(evidence, memory_bytes=weighed(folder)))
        write_manifest(folder, manifest)
    return manifest


def _reference(training: Tensors, columns: Sequence[str]) -> dict[str, Any]:
    """What the training data looked like. A handful of example rows say nothing of it: every caller would seem to drift."""
    if len(next(iter(training.values()), ())) < LEAST_REFERENCE_ROWS:
        return {}
    return {"features": [feature.as_json() for feature in reference_of(training, columns)]}


def _samples(original: Original) -> tuple[Tensors, bool]:
    if original.samples:
        samples = {name: np.ascontiguousarray(array[:_MOST_SAMPLE_ROWS]) for name, array in original.samples.items()}
        if len({len(array) for array in samples.values()}) != 1 or not len(next(iter(samples.values()))):
            raise BadInput("The sample inputs are empty or differ in their number of rows.", field="inputs")
        return {name: _as_spec(name, array, original.inputs) for name, array in samples.items()}, original.samples_are_real
    if not original.inputs or any(size == -1 for spec in original.inputs for size in spec.shape[1:] if original.kind == "sklearn"):
        raise BadInput(
            "What this model takes is not known: it carries no signature and no example.",
            remedy="Give a file of real inputs with --inputs.",
            field="inputs",
        )
    return synthetic(original.inputs, np.random.default_rng(0)), False


def _as_spec(name: str, array: np.ndarray, specs: Sequence[TensorSpec]) -> np.ndarray:
    """`array` in the datatype that the model states for it."""
    spec = next((spec for spec in specs if spec.name == name), None)
    return array if spec is None or spec.datatype == "BYTES" else array.astype(spec.dtype)


def _with_free(spec: TensorSpec, stated: Sequence[TensorSpec]) -> TensorSpec:
    """The stated shape where the model has one: it knows which inner dimensions are free."""
    for other in stated:
        if other.name == spec.name and len(other.shape) == len(spec.shape):
            return TensorSpec(
                spec.name, spec.datatype, (-1 if spec.shape[0] == -1 else other.shape[0], *(o if o > 0 else -1 for o in other.shape[1:]))
            )
    return spec


def _truth(original: Original, inputs: Tensors) -> Tensors:
    try:
        return original.predict(inputs)
    except Exception as error:  # the user's model: whatever it raises is shown as theirs
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
        raise BadInput(
            f"The model itself fails on {shapes}: {type(error).__name__}: {error}",
            remedy="Give inputs that it takes with --inputs.",
            code="model_failed",
        ) from error


def _try(
    original: Original,
    manifest: Manifest,
    place: Path,
    samples: Tensors,
    compared: Sequence[tuple[str, Tensors, Tensors]],
    request: Request,
) -> tuple[Candidate, tuple[TensorSpec, ...]]:
    """What was measured of one export, and the outputs as it states them (an export may answer in another precision)."""
    runtime_name = manifest.runtime
    try:
        export(original, runtime_name, place / manifest.file, samples, [spec.name for spec in manifest.outputs])
        runtime = open_runtime(place, manifest, threads=1)
        difference, specs = Difference(), manifest.outputs
        for case, inputs, expected in compared:
            got = runtime.run(inputs)
            found = compare(expected, got, request.tolerance)
            if not found.agrees:
                reason = f"differs from the original on {case}: {found.what}"
                return Candidate(runtime=runtime_name, worst=_finite(found.worst), max_abs_error=found.max_abs_error, refused=reason), ()
            specs = tuple(spec_of(name, array) for name, array in got.items())
            difference = difference.or_worse(found)
    except CannotExport as error:
        return Candidate(runtime=runtime_name, refused=f"cannot be exported: {error}"), ()
    except Exception as error:  # an export that does not load or run is refused, with the reason in the evidence
        return Candidate(runtime=runtime_name, refused=f"does not run: {type(error).__name__}: {str(error)[:300]}"), ()
    one, many = rows(samples, 1), rows(samples, BATCH_ROWS) if manifest.batchable else samples
    candidate = Candidate(
        runtime=runtime_name,
        worst=difference.worst,
        max_abs_error=difference.max_abs_error,
        milliseconds_one=_measure(lambda: runtime.run(one), request.measure_seconds),
        milliseconds_batch=_measure(lambda: runtime.run(many), request.measure_seconds),
    )
    return candidate, specs


def _measure(call: Callable[[], object], seconds: float) -> float:
    """Median milliseconds of one call; the first ones warm up and are not counted."""
    for _ in range(3):
        call()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < until and len(times) < 2000):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def _with_processing(manifest: Manifest, folder: Path, request: Request) -> Manifest:
    if request.processing is None:
        return manifest
    shutil.copyfile(request.processing, folder / "processing.py")
    named = "processing.py" + (f":{request.processing_name}" if request.processing_name else "")
    inputs, outputs = public_signature(load_processing(folder, named))
    return replace(manifest, processing=named, public_inputs=inputs, public_outputs=outputs)


def _because(chosen: Candidate, tried: Sequence[Candidate]) -> str:
    others = [candidate for candidate in tried if candidate is not chosen]
    text = f"{chosen.runtime} agrees with the original and takes {chosen.milliseconds_one:.3f} ms a row, {chosen.milliseconds_batch:.3f} ms for {BATCH_ROWS}."
    for candidate in others:
        reason = candidate.refused or f"takes {candidate.milliseconds_one:.3f} ms and {candidate.milliseconds_batch:.3f} ms"
        text += f" {candidate.runtime} {reason}."
    return text


def _described(candidate: Candidate) -> str:
    if candidate.refused:
        return f"{candidate.runtime}: {candidate.refused}"
    return f"{candidate.runtime}: agrees ({candidate.worst:.2g} of the tolerance), {candidate.milliseconds_one:.3f} ms a row, {candidate.milliseconds_batch:.3f} ms for {BATCH_ROWS}"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
