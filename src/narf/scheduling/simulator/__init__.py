"""The simulator: traces replayed through `plan`, and through the schedulers it is compared with."""
