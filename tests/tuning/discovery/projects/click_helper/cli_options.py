import click


def hyper(name, default, **kw):
    """An option that shows its default."""
    kw.setdefault("show_default", True)
    return click.option(f"--{name}", default=default, type=type(default), **kw)


def booster_options(func):
    for decorator in reversed(
        [
            hyper("depth", 4, help="depth of each tree"),
            hyper("shrinkage", 0.08),
            hyper("rounds", 40),
            hyper("l2-leaf", 1.0),
        ]
    ):
        func = decorator(func)
    return func
