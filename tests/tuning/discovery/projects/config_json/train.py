"""Early warning signals for corporate clients."""

import argparse
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, PositiveInt

import narf


class Forest(BaseModel):
    n_estimators: PositiveInt = 100
    max_features: float = Field(1.0, gt=0, le=1)
    min_samples_split: int = Field(2, ge=2, le=50)
    criterion: Literal["gini", "entropy"] = "gini"


class Sampling(BaseModel):
    ratio: float = Field(0.5, ge=0.05, le=1.0)
    replace: bool = False


class Settings(BaseModel):
    forest: Forest = Forest()
    sampling: Sampling = Sampling()
    seed: int = 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("params.json"))
    opts = parser.parse_args()
    settings = Settings.model_validate_json(opts.config.read_text())
    print(settings.model_dump_json())
    narf.log(f1=settings.sampling.ratio)


if __name__ == "__main__":
    main()
