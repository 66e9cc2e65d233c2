"""Which Python environment a model is packaged and served in: the one of the run that made it, where that had its own."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import narf
import narf.serving.entry
from narf.backends.local.environments import refers_to_files
from narf.domain.workload import Program, Workload

_START = str(Path(narf.serving.entry.__path__[0]) / "start.py")
# Runtimes that run the code of the packages that the model was made with. ONNX and TorchScript carry all they need.
_RUNS_CODE = ("torch", "pyfunc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the run's environment was built from; the same words find it built. snapshot: files that the requirements may refer to."""

    requirements: str = ""
    python: str | None = None
    snapshot: str | None = None

    @property
    def is_the_platforms(self) -> bool:
        return not self.requirements.strip() and self.python is None

    def program(self, name: str, arguments: tuple[str, ...], *, code: str | None = None) -> Program:
        """One of narf.serving.entry.start's, in this environment. code: the snapshot that it works in, if it needs one.

        A script of ours without a snapshot is forked from the environment's zygote, which has imported the heavy libraries.
        """
        arguments = (name, *arguments)
        if self.is_the_platforms:
            if code is None:
                return Program(script=_START, arguments=arguments, hooks=False)
            return Program(command=(sys.executable, _START, *arguments), snapshot=code, hooks=False)
        code = code or (self.snapshot if refers_to_files(self.requirements) else None)
        # The interpreter of an environment that is built for this comes first on the path.
        python = "python" if self.requirements.strip() else str(self.python)
        return Program(
            script=_START if code is None else None,
            arguments=arguments if code is None else (),
            command=() if code is None else (python, _START, *arguments),
            snapshot=code,
            requirements=self.requirements,
            python=self.python,
            environment=(("NARF_BESIDE", os.pathsep.join(_beside())),),
            hooks=False,
        )


def of_workload(workload: Workload | None) -> Environment:
    if workload is None:
        return Environment()
    program = workload.program
    return Environment(requirements=program.requirements, python=program.python, snapshot=program.snapshot)


def to_serve(made_by: Workload | None, manifest: dict[str, object]) -> Environment:
    """That of the workload that packaged the model; the platform's own where the model needs no package of its run: it starts sooner there."""
    needs = manifest.get("runtime") in _RUNS_CODE or bool(manifest.get("processing"))
    return of_workload(made_by) if needs else Environment()


def _beside() -> list[str]:
    paths = sysconfig.get_paths()
    places = [str(Path(narf.__file__).parents[1]), paths["purelib"], paths["platlib"]]
    return [f"{sys.version_info[0]}.{sys.version_info[1]}", *dict.fromkeys(places)]
