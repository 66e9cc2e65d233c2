BASE = {"arch": {"filters": 8, "depth": 2}, "opt": {"lr": 0.01, "momentum": 0.9}, "fit": {"batch": 40, "epochs": 2}, "io": {"root": "/data", "workers": 0}}
PRESETS = {"small": {}, "large": {"arch": {"filters": 16, "depth": 3}}}


def get_config(name):
    merged = {section: dict(values) for section, values in BASE.items()}
    for section, values in PRESETS[name].items():
        merged[section].update(values)
    return merged
