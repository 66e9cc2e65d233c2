"""The user's own pre- and post-processing, shipped with the model as a plain Python file.

Either a class with `preprocess(inputs)` and/or `postprocess(outputs)` or a module with these two functions. Each takes and
returns a dict of arrays by tensor name. Optional `inputs` and `outputs` (lists of {"name", "datatype", "shape"}) say what
callers see, where that differs from the model's own signature.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from narf.domain.errors import BadInput
from narf.serving.runtimes import Runtime
from narf.serving.tensors import Tensors, TensorSpec

Step = Callable[[Tensors], Tensors]


class ProcessedRuntime:
    def __init__(self, runtime: Runtime, before: Step | None, after: Step | None) -> None:
        self._runtime, self._before, self._after = runtime, before, after

    def run(self, inputs: Tensors) -> Tensors:
        outputs = self._runtime.run(self._before(inputs) if self._before else inputs)
        return self._after(outputs) if self._after else outputs


def with_processing(runtime: Runtime, folder: Path, processing: str) -> Runtime:
    holder = load_processing(folder, processing)
    return ProcessedRuntime(
        runtime, cast(Step | None, getattr(holder, "preprocess", None)), cast(Step | None, getattr(holder, "postprocess", None))
    )


def load_processing(folder: Path, processing: str) -> Any:
    """The class's one object, or the module, that "file.py" or "file.py:Class" in `folder` names.

    Raises:
        BadInput: the file or the name is not there, or has neither of the two functions.
    """
    file, _, name = processing.partition(":")
    path = folder / file
    if not path.is_file():
        raise BadInput(f"There is no file {file!r} for the processing.", remedy="Write file.py or file.py:Class.", field="processing")
    spec = importlib.util.spec_from_file_location(f"narf_processing_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name and not hasattr(module, name):
        raise BadInput(f"{file} has no {name!r}.", field="processing")
    holder = getattr(module, name)() if name else module
    if not hasattr(holder, "preprocess") and not hasattr(holder, "postprocess"):
        raise BadInput(f"{processing} has neither preprocess nor postprocess.", field="processing")
    return holder


def public_signature(holder: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What the processing says callers see; empty where it says nothing."""
    return tuple(map(TensorSpec.from_json, getattr(holder, "inputs", ()))), tuple(map(TensorSpec.from_json, getattr(holder, "outputs", ())))
