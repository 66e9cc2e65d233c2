"""What callers speak: Open Inference Protocol V2 (JSON and binary tensors), MLflow's `/invocations`, a plain `{"inputs": ...}`."""
