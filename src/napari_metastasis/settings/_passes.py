"""The base class of the options of a pass."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Self

from napari_metastasis.settings._core import SettingsGroup

__all__ = ["PassSettings"]


class PassSettings(SettingsGroup):
    """Options of one pass of a scan: a frozen dataclass that names those of its fields that every pass has."""

    __slots__ = ()

    #: Field that switches the pass on.
    SWITCH: ClassVar[str]
    #: Field with the share of the pass's map in the map that lesions are read from; the rest is the map before it.
    #: Empty where lesions are never read from it.
    SHARE: ClassVar[str]
    #: Whether a window switches the pass on by itself where its model ships, and the demonstration makes it.
    USUAL: ClassVar[bool] = True
    #: Field that a slider of the window moves, also after the scan; empty where there is none.
    SLIDER: ClassVar[str] = ""
    #: Field that keeps what the pass reads, in a scan without the pass; empty where there is none.
    KEEP: ClassVar[str] = ""

    @classmethod
    def stands_alone(cls) -> bool:
        """Return whether lesions are read from the pass's map alone, or not at all: its share is a switch."""
        known = cls.__dataclass_fields__  # type: ignore[attr-defined]  # each of them is a dataclass
        return bool(cls.SHARE) and isinstance(known[cls.SHARE].default, bool)

    @classmethod
    def details(cls) -> tuple[str, ...]:
        """Return the fields that say how the pass is made: all but its switch, share, slider and what it keeps."""
        names = (field.name for field in fields(cls))  # type: ignore[arg-type]  # each of them is a dataclass
        return tuple(name for name in names if name not in {cls.SWITCH, cls.SHARE, cls.SLIDER, cls.KEEP})

    @property
    def wanted(self) -> bool:
        """Return whether the scan makes the pass."""
        return bool(getattr(self, self.SWITCH))

    @property
    def share(self) -> float:
        """Return the share of the pass's map in the map that lesions are read from; 0 where they never are."""
        return float(getattr(self, self.SHARE)) if self.SHARE else 0.0

    @property
    def keeps_features(self) -> bool:
        """Return whether a scan keeps what the pass reads, for a later pass."""
        return bool(self.KEEP and getattr(self, self.KEEP))

    def wanting(self, *, wanted: bool = True) -> Self:
        """Return the same options with the pass made, or not made."""
        return self._with(self.SWITCH, value=wanted)

    def not_keeping(self) -> Self:
        """Return the same options with nothing kept for a later pass."""
        return self._with(self.KEEP, value=False) if self.KEEP else self

    def _with(self, name: str, *, value: bool) -> Self:
        changed: Self = replace(self, **{name: value})  # type: ignore[type-var]  # each of them is a dataclass
        return changed

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # each of them is a dataclass
        return values
