"""`narf import mlflow` and `narf export mlflow`: from any MLflow, and back to any MLflow."""

from __future__ import annotations

from typing import Annotated

import typer

from narf.cli import output
from narf.client.connection import connect, default_project

importing = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True)
exporting = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Project = Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NoArtifacts = Annotated[bool, typer.Option("--no-artifacts", help="Leave files behind.")]


@importing.callback()
def import_() -> None:
    """Bring runs from elsewhere."""


@exporting.callback()
def export_() -> None:
    """Take runs elsewhere."""


@importing.command(
    "mlflow", epilog="Example: narf import mlflow ./mlruns     narf import mlflow http://mlflow.example:5000 --experiment churn"
)
def import_mlflow_(
    source: Annotated[str, typer.Argument(help="A server's address, a folder mlruns, or a database file.")],
    project: Project = "",
    experiment: Annotated[list[str] | None, typer.Option(help="Only this experiment; may be given more than once.")] = None,
    no_artifacts: NoArtifacts = False,
    no_models: Annotated[bool, typer.Option("--no-models", help="Leave the model registry behind.")] = False,
    as_json: Json = False,
) -> None:
    """Bring experiments, runs, metrics, artifacts and registered models from MLflow. Repeating it brings what is new."""
    from narf.client.mlflow_transfer import as_dict, import_mlflow

    with connect() as connection:
        moved = import_mlflow(
            connection,
            project or default_project(),
            source,
            experiments=experiment or [],
            artifacts=not no_artifacts,
            models=not no_models,
            progress=output.say,
        )
    if as_json:
        output.print_json(as_dict(moved))
    else:
        print(
            f"{moved.runs} runs of {moved.experiments} experiments came over ({moved.known} were here), "
            f"{moved.points:,} points, {moved.artifacts} files, {moved.models} models."
        )
        for what, why in moved.failed.items():
            output.say(f"not brought: {what}: {why}")
    if moved.failed:
        raise typer.Exit(output.FAILED)


@exporting.command("mlflow", epilog="Example: narf export mlflow ./mlruns --experiment churn")
def export_mlflow_(
    target: Annotated[str, typer.Argument(help="A server's address, a folder, or a database file.")],
    runs: Annotated[list[str] | None, typer.Argument(help="Runs; all of the project when none is named.")] = None,
    project: Project = "",
    experiment: Annotated[list[str] | None, typer.Option(help="All runs of this experiment; may be given more than once.")] = None,
    no_artifacts: NoArtifacts = False,
    no_models: Annotated[bool, typer.Option("--no-models", help="Leave the model registry behind.")] = False,
    as_json: Json = False,
) -> None:
    """Copy runs with parameters, tags, every point, their files and registered models into an MLflow. Repeating it takes what is new."""
    from narf.client.mlflow_transfer import as_dict, export_mlflow

    with connect() as connection:
        moved = export_mlflow(
            connection,
            project or default_project(),
            target,
            runs=runs or [],
            experiments=experiment or [],
            artifacts=not no_artifacts,
            models=not no_models,
            progress=output.say,
        )
    if as_json:
        output.print_json(as_dict(moved))
    else:
        print(
            f"{moved.runs} runs of {moved.experiments} experiments went over ({moved.known} were there), "
            f"{moved.points:,} points, {moved.artifacts} files, {moved.models} models."
        )
