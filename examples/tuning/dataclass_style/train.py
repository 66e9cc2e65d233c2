"""A random forest on handwritten digits; configured with a dataclass that no command line reaches."""

from dataclasses import dataclass, field
from typing import Literal

import mlflow
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier


@dataclass
class Forest:
    trees: int = 20
    max_depth: int = 8
    criterion: Literal["gini", "entropy"] = "gini"


@dataclass
class Config:
    forest: Forest = field(default_factory=Forest)
    bootstrap: bool = True
    seed: int = 0


def train(config):
    features, labels = load_digits(return_X_y=True)
    forest = config.forest
    model = RandomForestClassifier(
        forest.trees, max_depth=forest.max_depth, criterion=forest.criterion, bootstrap=config.bootstrap, random_state=config.seed
    ).fit(features[:1000], labels[:1000])
    mlflow.log_metric("val_accuracy", model.score(features[1500:], labels[1500:]))


if __name__ == "__main__":
    train(Config())
