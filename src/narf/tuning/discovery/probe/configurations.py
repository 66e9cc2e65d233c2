"""Configurations that Hydra composes or OmegaConf merges with the command line."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import enum
import functools
import sys

from narf.tuning.discovery.probe.found import add, save, stop, type_of


def patch_hydra(hydra):
    original = hydra.main

    def replaced(*arguments, **options):
        decorate = original(*arguments, **options)

        def decorator(function):
            @functools.wraps(function)
            def task(config):
                from omegaconf import OmegaConf

                take_config(OmegaConf.to_container(config, resolve=False), "")
                stop("hydra")

            return decorate(task)

        return decorator

    hydra.main = replaced


def take_config(body, prefix, style="hydra"):
    for key, value in body.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            take_config(value, name + ".", style)
        elif not str(key).startswith("_") and not (isinstance(value, str) and "${" in value):
            kind, choices = type_of(type(value), value) if isinstance(value, enum.Enum) else type_of(None, value)
            add(name, kind if not isinstance(value, list) else "list", value, choices, "", style, "override", name)


def patch_omegaconf(omegaconf):
    """What is merged with the command line is the script's to take: `merge(..., OmegaConf.from_cli())`, `merge_with_dotlist(sys.argv[1:])`."""
    from omegaconf.basecontainer import BaseContainer

    conf = omegaconf.OmegaConf
    from_cli, merge, merge_dotlist = conf.from_cli, conf.merge, BaseContainer.merge_with_dotlist
    given = []

    def take(config):
        take_config(conf.to_container(config, resolve=False), "", "omegaconf")
        save()
        return config

    def from_command_line(*arguments, **named):
        given.append(from_cli(*arguments, **named))
        return given[-1]

    def merged(*configs, **named):
        result = merge(*configs, **named)
        return take(result) if any(config is item for config in configs for item in given) else result

    def merge_with_dotlist(config, words):
        merge_dotlist(config, words)
        if list(words) == sys.argv[1:]:
            take(config)

    conf.from_cli, conf.merge = staticmethod(from_command_line), staticmethod(merged)
    BaseContainer.merge_with_dotlist = merge_with_dotlist
