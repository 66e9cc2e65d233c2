"""The `narf` command. It imports a command's module only when that command is called, so that all answer at once."""

from __future__ import annotations

import sys
from importlib import import_module

# name -> (module with a Typer application `app`, what it does). The order is that of the help.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "The platform": {
        "up": ("narf.cli.platform:up", "start everything on this machine"),
        "down": ("narf.cli.platform:down", "stop it; running workloads go on and are found again"),
        "status": ("narf.cli.platform:status", "is it up, where, what runs"),
        "open": ("narf.cli.platform:open_page", "open the web page, signed in"),
        "doctor": ("narf.cli.doctor:doctor", "check this machine and the platform, and say what to mend"),
        "login": ("narf.cli.platform:login", "work with a platform elsewhere"),
        "backup": ("narf.cli.backup:backup", "copy all state into one file"),
        "restore": ("narf.cli.backup:restore", "bring a backup back"),
        "gc": ("narf.cli.backup:gc", "delete what the retention policy no longer keeps"),
    },
    "Work": {
        "run": ("narf.cli.run:run", "run a script: tracked, scheduled, resumable"),
        "tune": ("narf.cli.tune:tune", "find a script's parameters and search over them"),
        "ps": ("narf.cli.workloads:ps", "list workloads"),
        "show": ("narf.cli.workloads:show", "one workload with its attempts and history"),
        "logs": ("narf.cli.workloads:logs", "print or follow the output"),
        "cancel": ("narf.cli.workloads:cancel", "stop a workload"),
        "why": ("narf.cli.why:why", "why a workload waits, and when it will start"),
        "runs": ("narf.cli.runs:runs", "find recorded runs"),
        "run-show": ("narf.cli.runs:run_show", "one run: parameters, metrics, artifacts"),
        "experiments": ("narf.cli.experiments:experiments", "list experiments"),
        "compare": ("narf.cli.compare:compare", "what differs between runs"),
        "rerun": ("narf.cli.compare:rerun", "run it again as it was"),
        "import": ("narf.cli.import_mlflow:importing", "bring runs from MLflow"),
        "export": ("narf.cli.import_mlflow:exporting", "take runs to MLflow"),
    },
    "Models": {
        "models": ("narf.cli.models:app", "the model registry"),
        "deploy": ("narf.cli.deploy:deploy", "serve a model behind an endpoint"),
        "endpoints": ("narf.cli.endpoints:app", "what serves, scaling, rollback, drift"),
        "predict": ("narf.cli.predict:predict", "ask an endpoint, or run a model over a file"),
        "trace": ("narf.cli.endpoints:trace", "from a prediction to model, run, code and data"),
    },
    "Data": {
        "data": ("narf.cli.data:app", "datasets and their versions"),
        "sources": ("narf.cli.sources:app", "places data comes from"),
    },
    "The cluster": {
        "cluster": ("narf.cli.cluster:app", "nodes, GPUs and queues"),
        "quota": ("narf.cli.quota:app", "what each project is guaranteed and may hold"),
        "simulate": ("narf.cli.simulate:simulate", "replay a trace through the scheduler, or ask what if"),
    },
    "People": {
        "project": ("narf.cli.people:project", "projects, members, invitations"),
        "user": ("narf.cli.people:user", "accounts"),
        "token": ("narf.cli.people:token", "API tokens"),
        "secret": ("narf.cli.people:secret", "secrets for workloads"),
    },
}


def commands() -> dict[str, tuple[str, str]]:
    return {name: entry for group in GROUPS.values() for name, entry in group.items()}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; exits with the documented code."""
    sys.exit(_main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_help())
        return 0
    if arguments[0] in ("--version", "-V", "version"):
        from narf.version import VERSION

        print(f"narf {VERSION}")
        return 0
    if arguments[0] == "completion":
        return _completion(arguments[1:])
    name = arguments[0]
    if name not in commands():
        from difflib import get_close_matches

        near = get_close_matches(name, commands(), n=1)
        hint = f" Did you mean 'narf {near[0]}'?" if near else " See: narf --help"
        print(f"narf: there is no command {name[:60]!r}.{hint}", file=sys.stderr)
        return 2
    return _call(name, arguments[1:])


def _call(name: str, arguments: list[str]) -> int:
    from narf.cli.output import INTERRUPTED, exit_code_of, print_error
    from narf.domain.errors import NarfError

    module, attribute = commands()[name][0].split(":")
    app = getattr(import_module(module), attribute)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    try:
        app(args=arguments, prog_name=f"narf {name}")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except NarfError as error:
        print_error(error, as_json="--json" in options)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) went away; Python would complain again at exit
        return 0
    return 0


def _help() -> str:
    lines = ["Usage: narf COMMAND [OPTIONS]", "", "From raw data to a model in production.", ""]
    for title, group in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<12} {text}" for name, (_, text) in group.items()]
        lines.append("")
    lines += ["Begin with:  narf up          then:  narf run train.py", "Each command explains itself:  narf run --help"]
    return "\n".join(lines)


def _completion(arguments: list[str]) -> int:
    names = " ".join(sorted(commands()))
    shell = arguments[0] if arguments else ""
    scripts = {
        "bash": f'_narf() {{ COMPREPLY=(); local c="${{COMP_WORDS[COMP_CWORD]}}"; if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "{names}" -- "$c")); else COMPREPLY=($(compgen -f -- "$c")); fi; }}; complete -o filenames -F _narf narf',
        "zsh": f"#compdef narf\n_narf() {{ if (( CURRENT == 2 )); then compadd {names}; else _files; fi }}\ncompdef _narf narf",
        "fish": f"complete -c narf -n __fish_use_subcommand -f -a '{names}'",
    }
    if shell not in scripts:
        print('Usage: narf completion bash|zsh|fish    (e.g.  eval "$(narf completion bash)")', file=sys.stderr)
        return 2
    print(scripts[shell])
    return 0
