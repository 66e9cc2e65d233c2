"""A support vector machine on handwritten digits; a function that jsonargparse turns into a command line."""

from typing import Literal

import mlflow
from jsonargparse import CLI
from sklearn.datasets import load_digits
from sklearn.svm import SVC


def train(C: float = 1.0, gamma: float = 0.05, kernel: Literal["rbf", "poly", "sigmoid"] = "rbf", shrinking: bool = True, seed: int = 0):
    """Fit on 1,000 images and score on the last 297.

    Args:
        C: the inverse of the regularisation
        gamma: the width of the kernel
        kernel: the kernel
        shrinking: whether to use the shrinking heuristic
        seed: of the random numbers
    """
    features, labels = load_digits(return_X_y=True)
    features = features / 16
    model = SVC(C=C, gamma=gamma, kernel=kernel, shrinking=shrinking, random_state=seed).fit(features[:1000], labels[:1000])
    mlflow.log_metric("val_error", 1 - model.score(features[1500:], labels[1500:]))


if __name__ == "__main__":
    CLI(train)
