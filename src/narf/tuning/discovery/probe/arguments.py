"""Command lines declared with argparse, optparse and jsonargparse, taken where the script reads them."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import contextlib
import sys
import typing

from narf.tuning.discovery.probe.found import FILES, FOUND, add, save, stop, tells_all, type_of


def patch_argparse(argparse):
    def recording(original, is_final):
        def record(parser, args=None, namespace=None, **options):
            caller = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
            if caller in ("argparse", "hydra", "mlflow", "jsonargparse"):  # a library that reads its own arguments
                return original(parser, args, namespace, **options)
            known = {item["name"] for item in FOUND["parameters"]}
            take_parser(parser, "argparse", list(sys.argv[1:] if args is None else args))
            if known:
                FOUND["later"] += [item["name"] for item in FOUND["parameters"] if item["name"] not in known]
            if is_final and tells_all():
                stop("parse_args")
            save()
            complain = parser.error

            def error(message):
                FOUND["problem"] = FOUND["problem"] or f"{message}."
                complain(message)

            parser.error = error
            return original(parser, args, namespace, **options)

        return record

    argparse.ArgumentParser.parse_args = recording(argparse.ArgumentParser.parse_args, True)
    argparse.ArgumentParser.parse_known_args = recording(argparse.ArgumentParser.parse_known_args, False)


def patch_optparse(optparse):
    original = optparse.OptionParser.parse_args

    def record(parser, *more, **named):
        for group in [parser, *parser.option_groups]:
            for option in group.option_list:
                take_option(parser, option)
        if tells_all():
            stop("parse_args")
        save()
        return original(parser, *more, **named)

    optparse.OptionParser.parse_args = record


def take_option(parser, option):
    flags = [*option._long_opts, *option._short_opts]
    if option.action in ("help", "version") or not option.dest or not flags:
        return
    default = parser.defaults.get(option.dest)
    kind, choices = {"float": "float", "int": "int", "long": "int", "choice": "choice"}.get(option.type, "str"), list(option.choices or ())
    how, on_value = "option", True
    if option.action in ("store_true", "store_false"):
        how, kind, on_value = "switch", "bool", option.action == "store_true"
    elif option.action != "store" or option.nargs not in (None, 1):
        kind = "list"
    add(option.dest, kind, default, choices, option.help, "argparse", how, flags[0], "", on_value)


def patch_jsonargparse(jsonargparse):
    original = jsonargparse.ArgumentParser.parse_args

    def record(parser, args=None, *more, **named):
        words = list(sys.argv[1:] if args is None else args)
        take_parser(parser, "jsonargparse", words)
        save()
        jsonargparse.ArgumentParser.parse_args = original
        with contextlib.suppress(SystemExit):  # it says itself what is missing
            take_values(original(parser, args, *more, **named))
        stop("parse_args")

    jsonargparse.ArgumentParser.parse_args = record


def take_values(config):
    """What a parsed command line holds below the classes that it chose: `--model models.MLP` has `model.init_args.width`."""
    command = config.get("subcommand")
    prefix = f"{command}." if command else ""
    flat = {key[len(prefix) :]: value for key, value in config.items(branches=False) if key.startswith(prefix)}
    for item in FOUND["parameters"]:
        if isinstance(flat.get(item["name"]), (int, float, str)):
            item["default"] = flat[item["name"]]  # also where a configuration file says so
    known = {item["name"] for item in FOUND["parameters"]}
    for key, value in flat.items():
        root, mark, last = key.rpartition(".init_args.")
        if mark and key not in known:
            hints = hints_of(flat.get(f"{root}.class_path"))
            kind, choices = type_of(hints.get(last), value)
            add(key, kind, value, choices, "", "jsonargparse", "option", f"--{key}")


def hints_of(class_path):
    """Types of a constructor's parameters, those that it hands on to its bases among them."""
    import importlib

    module, _, name = str(class_path).rpartition(".")
    try:
        chosen = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return {}
    found = {}
    for base in reversed(chosen.__mro__):
        with contextlib.suppress(Exception):  # annotations are code of the script's
            found.update(typing.get_type_hints(base.__init__))
    return found


def take_parser(parser, style, words):
    for action in parser._actions:
        commands = getattr(action, "choices", None)
        if isinstance(commands, dict) and commands and all(hasattr(item, "_actions") for item in commands.values()):
            chosen = next(
                (word for word in words if word in commands), "fit" if "fit" in commands else "train" if "train" in commands else None
            )
            if chosen:
                if chosen not in words:
                    FOUND["prefix"].append(chosen)
                take_parser(commands[chosen], style, words)
            continue
        take_action(action, style)
    for group in getattr(parser, "_mutually_exclusive_groups", ()):
        for action in group._group_actions[1:]:
            FOUND["excluded"][action.dest] = group._group_actions[0].dest


def take_action(action, style):
    kind = type(action).__name__
    if kind in (
        "_HelpAction",
        "_VersionAction",
        "ActionPrintConfig",
        "_ActionPrintConfig",
        "_ActionConfigLoad",
        "ActionConfigFile",
        "_ActionHelpClassPath",
        "_ActionHelpShtab",
    ):
        return
    flags = list(action.option_strings)
    long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
    if long == "--config" and style == "argparse":
        FILES.append(long)  # whose file may say more than the options do
    if not long and action.nargs == "?" and action.default is not None:
        type_name, choices = type_of(action.type, action.default)
        type_name, choices = ("choice", list(action.choices)) if action.choices is not None else (type_name, choices)
        add(action.dest, type_name, action.default, choices, action.help, style, "inject", action.dest)
        return
    if not long or long in ("--config", "--print_config") or long.endswith(".help"):
        return
    how, off, on_value = "option", "", True
    type_name, choices = type_of(getattr(action, "_typehint", None) or action.type, action.default)
    if action.choices is not None:
        type_name, choices = "choice", list(action.choices)
    if kind in ("_StoreTrueAction", "_StoreFalseAction"):
        how, type_name, on_value = "switch", "bool", kind == "_StoreTrueAction"
    elif kind in ("BooleanOptionalAction", "ActionYesNo"):
        how, type_name, off = "on_off", "bool", next((flag for flag in flags if flag.startswith("--no")), "")
    elif kind in ("_AppendAction", "_CountAction", "_StoreConstAction") or action.nargs not in (None, "?"):
        type_name = "list"
    elif action.type is bool and style == "argparse":
        how = "truthy"
    elif action.type is None and style == "argparse" and isinstance(action.default, (int, float)) and action.choices is None:
        how = "inject"
    add(action.dest, type_name, action.default, choices, action.help, style, how, long, off, on_value, bool(action.required))
