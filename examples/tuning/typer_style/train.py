"""Nearest neighbours on handwritten digits; configured with Typer."""

from enum import StrEnum
from typing import Annotated

import mlflow
import typer
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

app = typer.Typer()


class Weights(StrEnum):
    uniform = "uniform"
    distance = "distance"


@app.command()
def train(
    neighbors: Annotated[int, typer.Option(min=1, max=30, help="how many neighbours vote")] = 5,
    weights: Weights = Weights.uniform,
    power: Annotated[float, typer.Option(min=1.0, max=4.0)] = 2.0,
    scale: bool = True,
    data_dir: str = ".",
):
    features, labels = load_digits(return_X_y=True)
    features = features / 16 if scale else features
    model = KNeighborsClassifier(neighbors, weights=weights.value, p=power).fit(features[:1000], labels[:1000])
    mlflow.log_metric("val_error", 1 - model.score(features[1500:], labels[1500:]))


if __name__ == "__main__":
    app()
