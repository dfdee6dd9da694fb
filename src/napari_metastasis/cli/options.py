"""Command-line options made from the settings, which state each default once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import typer
from rich.markup import escape

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings import setting_of
from napari_metastasis.tasks import pass_tasks
from napari_metastasis.workflows.scan_job import PassRequest

__all__ = ["WrongUsage", "refuse_options", "was_given", "with_passes", "with_settings"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class WrongUsage(typer.TyperException):
    """Wrong usage of the command line: exit status 2, as for an unknown option."""

    exit_code = 2


def was_given(context: typer.Context, name: str) -> bool:
    """Return whether the option of a parameter stands on the command line, even with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_options(context: typer.Context, ignored: tuple[str, ...], what: str) -> None:
    """Refuse options that were given but would change nothing.

    Parameters
    ----------
    context
        Of the command.
    ignored
        The options, by the beginning of their parameters' names.
    what
        What makes no use of them, for the message.

    Raises
    ------
    WrongUsage
        If one of them was given.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        if name.startswith(ignored) and was_given(context, name):
            raise WrongUsage(f"expected options that {what} makes use of, got {parameter.opts[0]}; leave it out")


def _option(group: type, name: str, flag: str, panel: str | None) -> Any:
    """Return a typer option for one setting: its default, its help with unit and range."""
    default, setting = setting_of(group, name)
    notes = [setting.unit] if setting.unit else []
    if setting.choices:
        notes.append(" | ".join(map(str, setting.choices)))
    elif setting.minimum is not None and setting.maximum is not None:
        notes.append(f"{setting.minimum:g} to {setting.maximum:g}")
    # Brackets around a word are rich's markup, and would vanish from the page.
    text = escape(setting.help + (f" [{'; '.join(notes)}]" if notes else ""))
    return typer.Option(default, flag, help=text, rich_help_panel=panel)


def _flag(name: str, kind: Any) -> str:
    """Return the flag of a setting; a switch has one to turn it off as well."""
    option = name.replace("_", "-")
    return f"--{option}/--no-{option}" if kind is bool else f"--{option}"


def with_settings(
    parameter: str,
    group: type,
    *,
    panel: str | None = None,
    flags: Mapping[str, str] | None = None,
    only: tuple[str, ...] = (),
    leave_out: tuple[str, ...] = (),
) -> Callable[[_Command], _Command]:
    """Give a command one option for every setting of a group; the command receives the group, checked.

    Parameters
    ----------
    parameter
        The command's parameter that takes the group.
    group
        A settings dataclass.
    panel
        Heading of its options in ``--help``.
    flags
        Flags of single settings, where they differ from their names.
    only
        Settings that the command takes; all of them by default.
    leave_out
        Settings without an option; they keep their defaults.

    Raises
    ------
    WrongUsage
        When the command is run, if a value is out of its setting's range.
    """
    flags = flags or {}
    hints = get_type_hints(group)
    # Prefixed by the group: another group, or the command itself, may have a setting of the same name.
    taken = [item.name for item in fields(group) if item.name not in leave_out and (not only or item.name in only)]
    names = {f"{parameter}_{name}": name for name in taken}
    options = [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=_option(group, name, flags.get(name, _flag(name, hints[name])), panel),
            annotation=hints[name],
        )
        for option, name in names.items()
    ]

    def decorate(command: _Command) -> _Command:
        signature = inspect.signature(command, eval_str=True)
        kept = [item for item in signature.parameters.values() if item.name != parameter]

        @wraps(command)
        def run(**values: Any) -> Any:
            chosen = {name: values.pop(option) for option, name in names.items()}
            try:
                settings = group(**chosen)
            except SettingsError as error:
                raise WrongUsage(str(error)) from error
            return command(**values, **{parameter: settings})

        # typer reads the signature, and the annotations for its types.
        keyword_only = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in kept]
        run.__signature__ = signature.replace(parameters=[*keyword_only, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in [*keyword_only, *options]}
        return run  # type: ignore[return-value]

    return decorate


def with_passes(parameter: str, *, panel: str | None = None, keeping: bool = True) -> Callable[[_Command], _Command]:
    """Give a command the options of all passes; it receives a request for each pass.

    Parameters
    ----------
    parameter
        The command's parameter that takes them: a tuple of :class:`~napari_metastasis.workflows.scan.PassRequest`.
    panel
        Heading of the options in ``--help``; each pass's own by default.
    keeping
        Whether the options of what a scan keeps for later are among them.
    """

    def decorate(command: _Command) -> _Command:
        tasks = pass_tasks()

        @wraps(command)
        def run(**values: Any) -> Any:
            requests = tuple(
                PassRequest(task=task.name, settings=values.pop(task.name), model=values.pop(f"{task.name}_model"))
                for task in tasks
            )
            return command(**values, **{parameter: requests})

        signature = inspect.signature(command, eval_str=True)
        kept = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in signature.parameters.values()]
        kept = [item for item in kept if item.name != parameter]
        for task in tasks:
            text = f"The {task.noun}'s name or file; with --{task.name}, by default the one that goes with the model."
            option = typer.Option("", task.model_option, help=text, rich_help_panel=panel or task.title)
            kept += [
                inspect.Parameter(f"{task.name}_model", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=str),
                inspect.Parameter(task.name, inspect.Parameter.KEYWORD_ONLY, annotation=task.settings),
            ]
        made: Any = run
        made.__signature__ = signature.replace(parameters=kept)
        for task in reversed(tasks):
            assert task.settings is not None
            left_out = () if keeping else (task.settings.KEEP,)
            made = with_settings(task.name, task.settings, panel=panel or task.title, leave_out=left_out)(made)
        return made

    return decorate
