"""Names of a package whose modules are imported when a name is first used: those that take seconds to load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["import_on_use"]


def import_on_use(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's ``__getattr__``.

    Parameters
    ----------
    package
        Its name.
    homes
        By name: the module where it is at home, from the package on.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return get
