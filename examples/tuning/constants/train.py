"""A softmax regression on handwritten digits in NumPy; its only parameters are constants."""

import mlflow
import numpy
from sklearn.datasets import load_digits

LEARNING_RATE = 0.5
WEIGHT_DECAY = 1e-4
BATCH_SIZE = 64
EPOCHS = 3
SEED = 0

random = numpy.random.default_rng(SEED)
features, labels = load_digits(return_X_y=True)
features = features / 16
weights = numpy.zeros((64, 10))


def probabilities(x):
    scores = x @ weights
    scores = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


for epoch in range(EPOCHS):
    order = random.permutation(1500)
    for start in range(0, 1500, BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        error = probabilities(features[rows]) - numpy.eye(10)[labels[rows]]
        weights -= LEARNING_RATE * (features[rows].T @ error / len(rows) + WEIGHT_DECAY * weights)
    held_out = probabilities(features[1500:])
    mlflow.log_metric("val_loss", float(-numpy.log(held_out[numpy.arange(297), labels[1500:]]).mean()), step=epoch)
