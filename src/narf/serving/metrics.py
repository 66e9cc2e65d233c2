"""Prometheus text of a replica's models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from narf.serving.model import ServedModel


def replica_metrics(models: Sequence[ServedModel]) -> str:
    lines: list[str] = []
    counters: dict[str, tuple[str, Callable[[ServedModel], float]]] = {
        "narf_model_requests_total": ("Requests answered.", lambda model: model.counters.requests),
        "narf_model_rows_total": ("Rows predicted.", lambda model: model.counters.rows),
        "narf_model_batches_total": ("Batches run.", lambda model: model.counters.batches),
        "narf_model_failed_total": ("Requests on which the model raised.", lambda model: model.counters.failed),
        "narf_model_rejected_total": ("Requests refused because the queue was full.", lambda model: model.counters.rejected),
        "narf_model_expired_total": ("Requests that could not be answered within their deadline.", lambda model: model.counters.expired),
        "narf_model_batch_seconds_total": ("Seconds spent in the model.", lambda model: model.counters.batch_seconds),
    }
    for name, (text, read) in counters.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        lines += [f"{name}{_labels(model)} {read(model)}" for model in models]
    lines += ["# HELP narf_model_waiting Requests queued or running.", "# TYPE narf_model_waiting gauge"]
    lines += [f"narf_model_waiting{_labels(model)} {model.waiting}" for model in models]
    lines += ["# HELP narf_model_batch_rows Rows in a batch.", "# TYPE narf_model_batch_rows histogram"]
    for model in models:
        lines += _sizes(model)
    return "\n".join(lines) + "\n"


def _sizes(model: ServedModel) -> list[str]:
    total, lines = 0, []
    for size in sorted(model.counters.by_size):
        total += model.counters.by_size[size]
        lines.append(f'narf_model_batch_rows_bucket{{model="{escape(model.name)}",version="{escape(model.version)}",le="{size}"}} {total}')
    lines.append(f'narf_model_batch_rows_bucket{{model="{escape(model.name)}",version="{escape(model.version)}",le="+Inf"}} {total}')
    return [
        *lines,
        f"narf_model_batch_rows_sum{_labels(model)} {model.counters.rows}",
        f"narf_model_batch_rows_count{_labels(model)} {total}",
    ]


def _labels(model: ServedModel) -> str:
    return f'{{model="{escape(model.name)}",version="{escape(model.version)}"}}'


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
