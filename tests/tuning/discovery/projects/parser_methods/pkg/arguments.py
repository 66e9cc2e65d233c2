import argparse


class Parser(argparse.ArgumentParser):
    """An argument parser with shortcuts for our defaults."""

    def number(self, name, default, help=None):
        kind = type(default)
        self.add_argument("--" + name.replace("_", "-"), dest=name, type=kind, default=default, help=help or f"default {default}")

    def flag(self, name, help=None):
        self.add_argument("--" + name.replace("_", "-"), dest=name, action="store_true", help=help)


def build():
    p = Parser("mortgage")
    p.number("learning_rate", 0.05, "of the booster")
    p.number("max_leaves", 31)
    p.number("min_child_weight", 5)
    p.number("feature_fraction", 0.9)
    p.flag("monotone", "increasing in the loan to value")
    p.number("rounds", 40)
    p.number("random_seed", 3)
    return p
