"""Gradient boosting on handwritten digits; configured with OmegaConf, overridden on the command line."""

from pathlib import Path

import mlflow
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier

config = OmegaConf.merge(OmegaConf.load(Path(__file__).parent / "config.yaml"), OmegaConf.from_cli())
features, labels = load_digits(return_X_y=True)
model = HistGradientBoostingClassifier(
    learning_rate=config.boosting.learning_rate,
    max_iter=config.boosting.rounds,
    max_leaf_nodes=config.boosting.max_leaf_nodes,
    l2_regularization=config.boosting.l2,
    early_stopping=False,
    random_state=config.seed,
).fit(features[:600], labels[:600])
mlflow.log_metric("val_accuracy", model.score(features[1500:], labels[1500:]))
