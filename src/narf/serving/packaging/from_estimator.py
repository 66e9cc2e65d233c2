"""Estimators: scikit-learn and what speaks its interface (XGBoost, LightGBM), and saved boosters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import BadInput, MissingExtra
from narf.serving.packaging.original import Original
from narf.serving.tensors import Tensors, TensorSpec

INPUT = "input"


def open_estimator(estimator: Any, source: Path | None) -> Original:
    """An object with `predict`; with `predict_proba` its probabilities are a second output."""
    if not hasattr(estimator, "predict"):
        raise BadInput(f"{type(estimator).__name__} has no predict method, so it cannot be served.")
    columns = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
    features = int(getattr(estimator, "n_features_in_", -1) or -1)
    return Original(
        kind="sklearn",
        label=f"{type(estimator).__module__.partition('.')[0]} {type(estimator).__name__}",
        model=estimator,
        predict=lambda inputs: predict_estimator(estimator, inputs, columns),
        inputs=(TensorSpec(INPUT, "FP32", (-1, features)),),
        columns=columns,
        source=source,
    )


def predict_estimator(estimator: Any, inputs: Tensors, columns: tuple[str, ...] = ()) -> Tensors:
    table: Any = inputs[INPUT]
    if columns:
        import pandas

        table = pandas.DataFrame(table, columns=list(columns))
    outputs: Tensors = {"output": np.asarray(estimator.predict(table))}
    if hasattr(estimator, "predict_proba"):
        outputs["probabilities"] = np.asarray(estimator.predict_proba(table))
    return outputs


def open_booster(path: Path) -> Original:
    """A model that XGBoost (.ubj, .json, .model) or LightGBM (.txt) saved itself."""
    if path.suffix == ".txt":
        try:
            import lightgbm
        except ImportError:
            raise MissingExtra(f"{path.name} (LightGBM)", "lightgbm") from None
        booster = lightgbm.Booster(model_file=str(path))
        features, predict, label = booster.num_feature(), booster.predict, "LightGBM Booster"
    else:
        try:
            import xgboost
        except ImportError:
            raise MissingExtra(f"{path.name} (XGBoost)", "xgboost") from None
        booster = xgboost.Booster()
        booster.load_model(path)
        features, label = booster.num_features(), "XGBoost Booster"

        def predict(table: Any) -> Any:
            return booster.predict(xgboost.DMatrix(table))

    return Original(
        kind="sklearn",
        label=label,
        model=booster,
        predict=lambda inputs: {"output": np.asarray(predict(inputs[INPUT]))},
        inputs=(TensorSpec(INPUT, "FP32", (-1, features)),),
        source=path,
    )
