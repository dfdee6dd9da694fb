"""Which code of other people this user trusts, by its SHA-256. A card cannot say so: its author wrote it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError
from napari_metastasis.memory_file import change_memory, memory_entries, memory_path, read_memory

__all__ = ["check_trusted", "is_trusted", "trust"]


def _path() -> Path:
    return memory_path("trusted.json")


def is_trusted(sha256: str) -> bool:
    """Return whether the user trusted a file."""
    return sha256 in memory_entries(read_memory(_path()))


def trust(sha256: str, name: str) -> None:
    """Trust a file from now on.

    Raises
    ------
    ModelError
        If that cannot be remembered.
    """

    def with_it(before: Any) -> dict[str, Any]:
        return {**memory_entries(before), sha256: {"name": name, "since": f"{datetime.now(UTC):%Y-%m-%d}"}}

    if not is_trusted(sha256):
        change_memory(_path(), with_it)
        if not is_trusted(sha256):
            raise ModelError(
                f"expected to remember in {_path()} that {name} is trusted, got no such file; free the disk"
            )


def check_trusted(sha256: str, name: str) -> None:
    """Refuse code that the user did not trust.

    Raises
    ------
    ModelError
        If so.
    """
    if not is_trusted(sha256):
        raise ModelError(
            f"expected code that is trusted here, got the TorchScript {sha256[:12]}… of {name}, which would run with "
            "your rights; if you trust where it is from, import or add it again with --trust"
        )
