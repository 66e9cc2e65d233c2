from __future__ import annotations

import dataclasses
import json
import sys

import narf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
    bottleneck: int = 3
    hidden: tuple[int, ...] = (24, 12)
    lr: float = 2e-3
    denoise: float = 0.05

    @classmethod
    def from_argv(cls, words):
        given = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
        return cls(**{field.name: type(field.default)(given[field.name]) for field in dataclasses.fields(cls) if field.name in given})


hyper = Hyper.from_argv(sys.argv[1:])
print(json.dumps({"bottleneck": hyper.bottleneck, "lr": hyper.lr, "denoise": hyper.denoise}))
narf.log(reconstruction_error=hyper.lr)
