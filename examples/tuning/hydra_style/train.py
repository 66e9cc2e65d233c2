"""A multi-layer perceptron on handwritten digits; configured with Hydra."""

import warnings

import hydra
import mlflow
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore", ConvergenceWarning)


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    features, labels = load_digits(return_X_y=True)
    features = features / 16
    model = MLPClassifier(
        (config.model.hidden,),
        activation=config.model.activation,
        learning_rate_init=config.optimizer.lr,
        alpha=config.optimizer.weight_decay,
        max_iter=config.epochs,
        random_state=config.seed,
    ).fit(features[:1500], labels[:1500])
    mlflow.log_metric("val_accuracy", model.score(features[1500:], labels[1500:]))


if __name__ == "__main__":
    main()
