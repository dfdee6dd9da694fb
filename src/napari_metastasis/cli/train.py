"""``train TASK``: a command for every task of the program's list, made of what the task declares."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from napari_metastasis import tasks
from napari_metastasis.cli.console import note
from napari_metastasis.cli.options import was_given, with_settings
from napari_metastasis.cli.training import CommonOptions, run_training
from napari_metastasis.workflows.train.declaration import TrainingDeclaration

__all__ = ["app"]

_COHORT = typer.Option(
    help="Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks.",
    rich_help_panel="Slides",
)
#: Options of every task beside its settings, in the order of CommonOptions.
_COMMON: dict[str, Any] = {
    "output": Annotated[
        Path, typer.Option(help="Run folder; a run found there with the same settings and data goes on.")
    ],
    "cohort": Annotated[Path, _COHORT],
    "name": str,
    "description": Annotated[str, typer.Option(help="What the data are, for the model card; their names by default.")],
    "licence": Annotated[str, typer.Option(help="Licence of the weights, for the model card.")],
}


class _TaskGroup(TyperGroup):
    """The commands that train, made when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the tasks of the program's list."""
        del ctx
        return [task.noun for task in tasks.TASKS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a task, or that of the task which had this name once."""
        del ctx
        for task in tasks.TASKS:
            declared = tasks.load(task.training)
            if cmd_name in (task.noun, declared.former):
                if cmd_name != task.noun:
                    note(f"train {cmd_name} is called train {task.noun} now")
                return _build_command(task.noun, declared)
        return None


app = typer.Typer(help="Train a model.", no_args_is_help=True, cls=_TaskGroup)


@app.callback()
def _train() -> None:
    """Train a model."""


def _build_command(noun: str, declared: TrainingDeclaration) -> Any:
    """Return the command that trains a task, with an option for each of its settings."""

    def command(context: typer.Context, **values: Any) -> None:
        options = CommonOptions(**{name: values.pop(name) for name in _COMMON})
        written = {parameter.name or "": parameter.opts[0] for parameter in context.command.params}
        given = {name: flag for name, flag in written.items() if was_given(context, name)}
        run_training(declared, options, values, given)

    called = f"Name of the {noun}; '{declared.prefix}-' and the run folder's by default."
    defaults = {"name": "", "description": "", "licence": "", **({"cohort": None} if declared.takes_patches else {})}
    kinds = _COMMON | {
        "cohort": Annotated[Path | None if declared.takes_patches else Path, _COHORT],
        "name": Annotated[str, typer.Option(help=called)],
    }
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, kind in kinds.items():
        default = defaults.get(name, inspect.Parameter.empty)
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default))
    for each in declared.groups:
        parameters.append(inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, annotation=each.group))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    for each in declared.groups:
        command = with_settings(each.name, each.group, panel=each.panel, flags=each.flags, leave_out=each.leave_out)(
            command
        )
    alone = typer.Typer(add_completion=False)
    alone.command(noun, help=declared.help)(command)
    return get_command(alone)
