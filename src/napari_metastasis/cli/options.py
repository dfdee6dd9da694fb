"""Command-line options made from the settings' own metadata, so that no default is written twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import typer

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings import setting_of

__all__ = ["WrongUsage", "setting_option", "with_settings"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class WrongUsage(typer.TyperException):
    """The command line asks for what cannot be: exit status 2, as for an unknown option."""

    exit_code = 2


def setting_option(group: type, name: str, *flags: str, panel: str | None = None) -> Any:
    """Return a typer option for one setting: its default, its help with unit and range.

    Parameters
    ----------
    group, name
        The setting.
    flags
        How it is written, where that differs from its name.
    panel
        Heading that it stands under in ``--help``.
    """
    default, setting = setting_of(group, name)
    notes = []
    if setting.unit:
        notes.append(setting.unit)
    if setting.choices:
        notes.append(" | ".join(map(str, setting.choices)))
    elif setting.minimum is not None and setting.maximum is not None and not isinstance(default, bool):
        notes.append(f"{setting.minimum:g} to {setting.maximum:g}")
    text = setting.help + (f" [{'; '.join(notes)}]" if notes else "")
    declarations = flags or ("--" + name.replace("_", "-"),)
    return typer.Option(default, *declarations, help=text, rich_help_panel=panel)


def with_settings(
    parameter: str,
    group: type,
    *,
    panel: str | None = None,
    flags: Mapping[str, str] | None = None,
    leave_out: tuple[str, ...] = (),
) -> Callable[[_Command], _Command]:
    """Give a command one option for every setting of a group; the command itself receives the group, checked.

    Parameters
    ----------
    parameter
        The command's parameter that takes the group.
    group
        A settings dataclass.
    panel
        Heading that its options stand under in ``--help``.
    flags
        How single settings are written, where that differs from their names.
    leave_out
        Settings that mean nothing on the command line; they keep their defaults.

    Raises
    ------
    WrongUsage
        When the command is run with a value out of its setting's range.
    """
    flags = flags or {}
    hints = get_type_hints(group)
    # Named after the group as well: two groups, or the command itself, may have a setting of one name.
    names = {f"{parameter}_{item.name}": item.name for item in fields(group) if item.name not in leave_out}
    options = [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=setting_option(group, name, flags.get(name, "--" + name.replace("_", "-")), panel=panel),
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
