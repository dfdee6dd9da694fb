"""What a setting is: its default, its unit, its range and its reason, written once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from napari_metastasis.errors import SettingsError

__all__ = ["Setting", "SettingsGroup", "changes", "check", "other_defaults", "setting", "setting_of"]

_Group = TypeVar("_Group")


@dataclass(frozen=True, slots=True)
class Setting:
    """What forms and the command line show of one field.

    Attributes
    ----------
    help
        One sentence for a person: what it does, and why one would change it.
    unit
        Unit of the number, empty where it has none.
    minimum, maximum
        Inclusive range; ``None`` where it is open.
    choices
        The values allowed; empty where any in the range is.
    added
        Whether the first records of this program knew no such setting: while it is off, records leave it out, so that
        earlier runs go on.
    """

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    added: bool = False


def setting(default: Any, help: str, **extra: Any) -> Any:
    """Return a dataclass field with its default and its metadata; ``extra`` are further fields of :class:`Setting`."""
    return field(default=default, metadata={"setting": Setting(help, **extra)})


def other_defaults(**defaults: Any) -> Callable[[type[_Group]], type[_Group]]:
    """Decorate a settings group that inherits settings and changes their defaults alone."""

    def derive(group: type[_Group]) -> type[_Group]:
        inherited = {candidate.name: candidate for candidate in fields(group)}  # type: ignore[arg-type]
        for name, default in defaults.items():
            setattr(group, name, field(default=default, metadata=inherited[name].metadata))
            group.__annotations__[name] = inherited[name].type
        return dataclass(frozen=True, slots=True, kw_only=True)(group)

    return derive


def setting_of(group: type, name: str) -> tuple[Any, Setting]:
    """Return the default and the metadata of field ``name`` of a settings group.

    Raises
    ------
    SettingsError
        If the group has no such setting.
    """
    for candidate in fields(group):
        if candidate.name == name and candidate.default is not MISSING:
            return candidate.default, candidate.metadata["setting"]
    raise SettingsError(f"expected a setting of {group.__name__}, got {name!r}; see its fields")


def check(group: Any) -> None:
    """Check every value of a settings group, each number of a tuple, against its range.

    Raises
    ------
    SettingsError
        Naming the first setting out of range, its range and its value.
    """
    for candidate in fields(group):
        meta: Setting | None = candidate.metadata.get("setting")
        value = getattr(group, candidate.name)
        if meta is None or value is None:
            continue
        name = candidate.name.replace("_", "-")
        if meta.choices and value not in meta.choices:
            choices = ", ".join(map(str, meta.choices))
            raise SettingsError(f"expected {name} to be one of {choices}, got {value!r}; choose one of them")
        for number in value if isinstance(value, tuple) else (value,):
            _check_range(name, number, meta)


class SettingsGroup:
    """The base class of settings groups, which are frozen dataclasses."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)

    def told(self) -> dict[str, Any]:
        """Return all values for a record, without what was added and is off."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # each of them is a dataclass
        return {name: value for name, value in values.items() if value or not setting_of(type(self), name)[1].added}


def changes(group: Any) -> dict[str, Any]:
    """Return the values of a settings group that are not its defaults, by name."""
    return {
        one.name: value
        for one in fields(group)
        if (value := getattr(group, one.name)) != setting_of(type(group), one.name)[0]
    }


def _check_range(name: str, value: Any, meta: Setting) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low = -math.inf if meta.minimum is None else meta.minimum
    high = math.inf if meta.maximum is None else meta.maximum
    # Written so that NaN, which compares false with everything, is refused as well.
    if not low <= value <= high:
        unit = f" {meta.unit}" if meta.unit else ""
        raise SettingsError(
            f"expected {name} between {low:g} and {high:g}{unit}, got {value:g}; choose a value in that range"
        )
