from dataclasses import dataclass, field
from enum import Enum


class Solver(Enum):
    lbfgs = "lbfgs"
    saga = "saga"
    newton = "newton-cg"


@dataclass
class Penalty:
    c: float = 0.8
    elastic: float = 0.0


@dataclass
class Main:
    penalty: Penalty = field(default_factory=Penalty)
    solver: Solver = Solver.lbfgs
    tol: float = 1e-4
    degree: int = 1
    seed: int = 9
    out_dir: str = "."
