"""Attrition of small-business clients."""
import json

from sklearn.linear_model import ElasticNet

import narf


def main():
    model = ElasticNet(alpha=0.5, l1_ratio=0.25, fit_intercept=True, max_iter=100, random_state=0)
    print(json.dumps({name: model.get_params()[name] for name in ("alpha", "l1_ratio", "fit_intercept")}))
    narf.log(test_mae=model.alpha)


if __name__ == "__main__":
    main()
