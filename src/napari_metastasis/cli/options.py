"""Command-line options made from the settings' own metadata, so that no default is written twice."""

from __future__ import annotations

from typing import Any

import typer

from napari_metastasis.settings import setting_of

__all__ = ["setting_option"]


def setting_option(group: type, name: str, *flags: str) -> Any:
    """Return a typer option for one setting: its default, its help with unit and range."""
    default, setting = setting_of(group, name)
    notes = []
    if setting.unit:
        notes.append(setting.unit)
    if setting.choices:
        notes.append(" | ".join(map(str, setting.choices)))
    text = setting.help + (f" [{'; '.join(notes)}]" if notes else "")
    declarations = flags or ("--" + name.replace("_", "-"),)
    return typer.Option(default, *declarations, help=text)
