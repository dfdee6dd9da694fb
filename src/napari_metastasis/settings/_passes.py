"""What the options of every pass have in common."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

__all__ = ["PassSettings"]


class PassSettings:
    """The options of one pass of a scan: a frozen dataclass that says which of its fields mean what all passes know."""

    __slots__ = ()

    #: The field that says whether the pass is made.
    SWITCH: ClassVar[str]
    #: The field that holds the share of the pass's map in what lesions are read from; the rest is what came before it.
    SHARE: ClassVar[str]
    #: The field that says whether a scan without the pass keeps what it would read; empty where there is none.
    KEEP: ClassVar[str] = ""

    @property
    def wanted(self) -> bool:
        """Return whether the scan makes the pass."""
        return bool(getattr(self, self.SWITCH))

    @property
    def share(self) -> float:
        """Return the share of the pass's map in what lesions are read from."""
        return float(getattr(self, self.SHARE))

    @property
    def keeps_features(self) -> bool:
        """Return whether a scan keeps what the pass reads, so that it can be made later."""
        return bool(self.KEEP and getattr(self, self.KEEP))

    def wanting(self) -> Self:
        """Return the same options with the pass made."""
        return self._with(self.SWITCH, value=True)

    def not_keeping(self) -> Self:
        """Return the same options with nothing kept for later: of scans that are looked at once."""
        return self._with(self.KEEP, value=False) if self.KEEP else self

    def _with(self, name: str, *, value: bool) -> Self:
        changed: Self = replace(self, **{name: value})  # type: ignore[type-var]  # each of them is a dataclass
        return changed

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # each of them is a dataclass
        return values
