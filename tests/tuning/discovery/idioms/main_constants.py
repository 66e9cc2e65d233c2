import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.datasets import load_digits
if __name__ == "__main__":
    ALPHA = 1e-4
    ETA0: float = 0.05
    PENALTY = "l2"
    N_ITER = 5
    SEED = 3
    X, y = load_digits(return_X_y=True)
    model = SGDClassifier(alpha=ALPHA, eta0=ETA0, penalty=PENALTY, learning_rate="constant", max_iter=N_ITER, random_state=SEED, tol=None)
    model.fit(X[:1000], y[:1000])
    import narf
    narf.log(accuracy=model.score(X[1000:], y[1000:]))
