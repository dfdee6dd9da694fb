"""A folder on a disk that takes nothing more: chmod would not stop root."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["make_read_only"]


def make_read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let every way to change what lies below a folder fail as on a read-only disk."""
    below = os.path.realpath(folder)

    def refusing(whole: Callable[..., Any], changes: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            is_below = not isinstance(path, int) and os.path.realpath(path).startswith(below)
            if is_below and changes(*rest, *more.values()):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return whole(path, *rest, **more)

        return call

    for name in ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "utime", "chmod"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    monkeypatch.setattr(os, "open", refusing(os.open, lambda flags, *_: bool(flags & writes)))
    monkeypatch.setattr(io, "open", refusing(io.open, lambda mode="r", *_: not {*"wxa+"}.isdisjoint(str(mode))))
