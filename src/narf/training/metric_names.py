"""The words that metrics are named with, and what a search would do with them."""

from __future__ import annotations

import re

# Words that end on the low side come first: "log_loss", "error_rate", "mean_squared_error".
LOW = {
    "loss", "error", "err", "mse", "rmse", "mae", "mape", "perplexity", "ppl", "nll", "cer", "wer", "fid", "divergence", "kl", "kld", "distance", "regret", "time", "latency",
    "seconds", "bpd", "bits", "brier", "ece", "cost", "energy", "elbo_loss", "residual", "deviance", "misclassification", "hinge", "crossentropy", "entropy", "rmsle", "logloss", "bpc", "eer", "focal", "huber", "bce", "xent", "bouldin", "inertia", "pinball", "smape", "wape", "mase", "mdape", "mmd", "qlike",
}  # fmt: skip
HIGH = {
    "accuracy", "acc", "auc", "auroc", "auprc", "ap", "map", "f1", "fbeta", "precision", "recall", "score", "reward", "return", "returns", "bleu", "rouge", "meteor", "r2", "iou", "miou",
    "dice", "ndcg", "mrr", "psnr", "ssim", "kappa", "mcc", "correct", "top1", "top5", "likelihood", "throughput", "gain", "em", "sensitivity", "specificity", "jaccard", "elbo", "win", "hits", "gini", "ks", "lift", "aucpr", "profit", "sharpe", "silhouette", "nmi", "ari", "qini", "uplift", "concordance", "cindex", "ctr", "loglik",
}  # fmt: skip
_WEAK = {"score"}  # says more only where no other word does: the Brier score is an error
_C_INDEX = re.compile(r"(?<![a-z])c[-_ ]index")
_SPLIT = re.compile(r"[^a-z0-9]+")


def words_of(name: str) -> list[str]:
    """`valLoss` and `val/loss` are val, loss; `c-index` is one word."""
    return [word for word in _SPLIT.split(_C_INDEX.sub("cindex", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())) if word]


def direction_of(name: str) -> str:
    """ "minimize" or "maximize" as the name says, "" where it says neither."""
    words = words_of(name)
    for word in [*(word for word in reversed(words) if word not in _WEAK), *(word for word in words if word in _WEAK)]:
        if word in LOW or word in HIGH:
            is_low = (word in LOW) != bool({"neg", "negative"} & set(words))  # scikit-learn's neg_log_loss is to grow
            return "minimize" if is_low else "maximize"
    return ""
