"""Text as it may go out: names of files hold anything, and a terminal obeys some of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TextIO

__all__ = ["readable", "readable_json"]

#: Kinds of letters that are escaped: codes that a terminal obeys, marks that turn the direction of text, halves that
#: stand for bytes of no UTF-8, and breaks of lines.
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def readable(text: str, stream: TextIO) -> str:
    r"""Return a text for one line of a stream, with Python's escapes for what must not go out as it is.

    A byte 255 that is no UTF-8, which Python holds as half a letter, becomes ``\udcff``; the code that begins a
    terminal's commands ``\x1b``. So does what the stream's encoding lacks.
    """
    return _escaped(text, stream, lambda letter: letter.encode("unicode_escape").decode("ascii"))


def readable_json(text: str, stream: TextIO) -> str:
    """Return JSON with the escapes of JSON in its strings: who reads it finds the same names."""
    return _escaped(text, stream, _as_json)


def _escaped(text: str, stream: TextIO, escape: Callable[[str], str]) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if text.isprintable() and _has(encoding, text):
        return text
    return "".join(
        letter if unicodedata.category(letter) not in _NOT_SHOWN and _has(encoding, letter) else escape(letter)
        for letter in text
    )


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _as_json(letter: str) -> str:
    # JSON counts in units of 16 bits: letters beyond them are two.
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
