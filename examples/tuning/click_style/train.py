"""A logistic regression on handwritten digits, trained by stochastic gradient descent; configured with click."""

import click
import mlflow
import numpy
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier


@click.command()
@click.option("--alpha", type=click.FloatRange(1e-7, 1.0), default=1e-4, help="strength of the regularisation")
@click.option("--penalty", type=click.Choice(["l1", "l2", "elasticnet"]), default="l2")
@click.option("--eta0", type=float, default=0.01, help="first step size")
@click.option("--average/--no-average", default=False)
@click.option("--rounds", type=int, default=3)
@click.option("--seed", type=int, default=0)
def train(alpha, penalty, eta0, average, rounds, seed):
    features, labels = load_digits(return_X_y=True)
    features = features / 16
    model = SGDClassifier(alpha=alpha, penalty=penalty, eta0=eta0, learning_rate="adaptive", average=average, random_state=seed)
    for step in range(rounds):
        model.partial_fit(features[:1500], labels[:1500], classes=numpy.arange(10))
        mlflow.log_metric("val_accuracy", model.score(features[1500:], labels[1500:]), step=step)


if __name__ == "__main__":
    train()
