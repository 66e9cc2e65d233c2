"""Digits with scikit-learn: nothing in it knows of Narf. Parameters and scores are recorded through MLflow's autologging.

python train.py --c 1.0
"""

import argparse

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", type=float, default=1.0)
    args = parser.parse_args()
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16.0, y, test_size=0.2, random_state=0, stratify=y)
    model = LogisticRegression(C=args.c, max_iter=500).fit(x_train, y_train)
    print(f"accuracy {model.score(x_test, y_test):.4f}")


if __name__ == "__main__":
    main()
