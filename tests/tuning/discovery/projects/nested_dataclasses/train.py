"""Two learners of one class, and two optimisers with fields of one name."""
from __future__ import annotations

import dataclasses
import json

import narf


@dataclasses.dataclass(frozen=True)
class Learner:
    alpha: float = 1.0
    degree: int = 2


@dataclasses.dataclass
class Settings:
    treatment: Learner = dataclasses.field(default_factory=Learner)
    control: Learner = dataclasses.field(default_factory=lambda: Learner(alpha=2.0))
    trim: float = 0.02


@dataclasses.dataclass
class Generator:
    lr: float = 0.01


@dataclasses.dataclass
class Discriminator:
    lr: float = dataclasses.field(default=0.03)


settings, generator, discriminator = Settings(), Generator(), Discriminator()
used = {**dataclasses.asdict(settings), "Generator": dataclasses.asdict(generator), "Discriminator": dataclasses.asdict(discriminator)}
print(json.dumps(used))
narf.log(uplift_rmse=settings.treatment.alpha)
