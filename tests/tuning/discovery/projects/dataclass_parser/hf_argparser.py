"""The few lines of transformers' HfArgumentParser that we need (the package is not allowed on the cluster)."""

import dataclasses
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from typing import get_type_hints


class DataclassArgumentParser(ArgumentParser):
    def __init__(self, dataclass_types, **kwargs):
        kwargs.setdefault("formatter_class", ArgumentDefaultsHelpFormatter)
        super().__init__(**kwargs)
        self.types = list(dataclass_types)
        for dtype in self.types:
            self._add(dtype)

    def _add(self, dtype):
        hints = get_type_hints(dtype)
        group = self.add_argument_group(dtype.__name__)
        for f in dataclasses.fields(dtype):
            kwargs = dict(f.metadata)
            kwargs["default"] = f.default if f.default is not dataclasses.MISSING else f.default_factory()
            if hints[f.name] is bool:
                kwargs["type"] = lambda s: s.lower() in ("true", "1", "yes")
                kwargs["nargs"] = "?"
                kwargs["const"] = True
            else:
                kwargs["type"] = hints[f.name]
            group.add_argument(f"--{f.name}", **kwargs)

    def parse_args_into_dataclasses(self, args=None):
        ns, _ = self.parse_known_args(args)
        return tuple(t(**{f.name: getattr(ns, f.name) for f in dataclasses.fields(t)}) for t in self.types)
