"""Tracking: MLflow's stores with packed metric chunks, and MLflow's server mounted in ours."""
