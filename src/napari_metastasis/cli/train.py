"""``train TASK``: a command for every task of the program's list, made of what the task declares."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from napari_metastasis import tasks
from napari_metastasis.cli.console import note, show_progress
from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cli.options import was_given, with_settings
from napari_metastasis.cli.training import run_training
from napari_metastasis.workflows.train.declaration import Chosen, TrainingDeclaration

__all__ = ["app"]


class _TaskGroup(TyperGroup):
    """The commands of the tasks, made on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the tasks of the program's list."""
        del ctx
        return [task.trained_as for task in tasks.TASKS if task.training]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a task, by its name or a former one."""
        del ctx
        for task in tasks.TASKS:
            declared = tasks.resolve(task.training) if task.training else None
            if declared is not None and cmd_name in (task.trained_as, declared.former):
                if cmd_name != task.trained_as:
                    note(f"train {cmd_name} is called train {task.trained_as} now")
                return _build_command(task, declared)
        return None


app = typer.Typer(help="Train a model.", no_args_is_help=True, cls=_TaskGroup)


@app.callback()
def _train() -> None:
    """Train a model."""
    keep_freed_memory()


def _build_command(task: tasks.Task, declared: TrainingDeclaration) -> Any:
    """Return the command that trains a task, with an option for each of its settings."""

    def command(context: typer.Context, **values: Any) -> None:
        groups = {each.name: values.pop(each.name) for each in declared.groups}
        values["name"] = values["name"] or f"{declared.prefix}-{values['output'].resolve().name}"
        written = {parameter.name or "": parameter.opts[0] for parameter in context.command.params}
        given = {name: flag for name, flag in written.items() if was_given(context, name)}
        fetching = partial(show_progress, "Fetching weights", unit="MB", scale=1e-6)
        run_training(declared, Chosen(**values, groups=groups, given=given, fetching=fetching))

    of_groups = [_parameter(each.name, each.group) for each in declared.groups]
    signature = inspect.Signature([*_common(task.noun, declared), *of_groups])
    command.__signature__ = signature  # type: ignore[attr-defined]
    for each in declared.groups:
        give = with_settings(each.name, each.group, panel=each.panel, flags=each.flags, leave_out=each.leave_out)
        command = give(command)
    alone = typer.Typer(add_completion=False)
    alone.command(task.trained_as, help=declared.help)(command)
    return get_command(alone)


def _common(noun: str, declared: TrainingDeclaration) -> list[inspect.Parameter]:
    """Return the options of every task beside its settings, which are fields of :class:`Chosen`."""
    output = typer.Option(help="Run folder; a run found there with the same settings and data goes on.")
    cohort = typer.Option(
        help="Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks.",
        rich_help_panel="Slides",
    )
    name = typer.Option(help=f"Name of the {noun}; '{declared.prefix}-' and the run folder's by default.")
    description = typer.Option(help="What the data are, for the model card; their names by default.")
    return [
        _parameter("context", typer.Context),
        _parameter("output", Annotated[Path, output]),
        _parameter("cohort", Annotated[Path, cohort])
        if declared.needs_slides
        else _parameter("cohort", Annotated[Path | None, cohort], None),
        _parameter("name", Annotated[str, name], ""),
        _parameter("description", Annotated[str, description], ""),
        _parameter("licence", Annotated[str, typer.Option(help="Licence of the weights, for the model card.")], ""),
    ]


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
