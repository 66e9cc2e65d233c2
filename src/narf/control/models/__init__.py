"""The model registry: MLflow's registry is the truth of models, versions and aliases; what we add is the serving package."""
