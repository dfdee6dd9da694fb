"""JSON as it comes from disk: parsed strictly, in bounded memory, without losing speed.

Python's own parser ends in a RecursionError on deep nesting, reads ``1e400`` as infinity, and lets halves of characters
through that no file can hold. Here all of these are refused by one error, with a reason for a message.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np

from napari_metastasis.storage import read_at_most

__all__ = ["PlainJsonError", "parse_json", "read_json"]

#: Bytes of a card or a record: thousands of times what they hold. Parsed, a byte can become thirty.
_MOST_BYTES = 1 << 24
#: Arrays and objects inside each other. Parsers and whatever walks their values call themselves for each.
_DEEPEST = 100
#: Digits of an integer: 128 bits have 39.
_MOST_DIGITS = 40
#: Texts shorter than this are parsed number by number: looking for strange numbers first would take longer.
_SHORT_BYTES = 1 << 12

#: What is looked at at once: a copy of all would take as much memory again.
_PIECE_BYTES = 1 << 22

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
#: Halves of characters that an escape can name.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
#: Brackets as what they add to the depth, and every byte that is none.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
#: Digits as 0 and the signs of an exponent as e.
_SHAPE = bytes.maketrans(b"0123456789E", b"0000000000e")
#: What every number that overflows, or has too many digits, looks like; few others do.
_STRANGE_NUMBERS = (b"0" * _MOST_DIGITS, b"e000", b"e+000")


class PlainJsonError(ValueError):
    """A text that is no JSON, or none that is read here; says why in a few words."""


def read_json(path: str | os.PathLike[str], *, nan_as_null: bool = False, most_bytes: int = _MOST_BYTES) -> Any:
    """Return what a file of JSON holds; see :func:`parse_json`.

    Raises
    ------
    OSError
        If it cannot be read.
    PlainJsonError
        If it is larger than ``most_bytes``, or :func:`parse_json` refuses it.
    """
    try:
        data = read_at_most(path, most_bytes)
    except ValueError as error:
        raise PlainJsonError(str(error)) from error
    return parse_json(data, nan_as_null=nan_as_null)


def parse_json(text: str | bytes, *, nan_as_null: bool = False) -> Any:
    """Return what a text of JSON says: finite numbers, and strings that can be written again.

    Parameters
    ----------
    text
        Bytes are UTF-8, with or without a byte-order mark.
    nan_as_null
        Whether ``NaN`` and ``Infinity``, which are no JSON, are read as ``null``. Other programs write them into
        measurements, and earlier versions of this one into the figures of cards.

    Raises
    ------
    PlainJsonError
        If it is no JSON, nested too deep, has an integer of too many digits, a number too large to be one, a NaN, or
        half of a character.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
        text = data.decode("utf-8-sig")
    except UnicodeError as error:
        raise PlainJsonError("no text in UTF-8") from error
    if _depth(data) > _DEEPEST and _depth(_without_strings(data)) > _DEEPEST:
        raise PlainJsonError(f"more than {_DEEPEST} arrays or objects inside each other")
    plain = len(data) > _SHORT_BYTES and not (_is_strange(data) and _is_strange(_without_strings(data)))
    try:
        value = _DECODERS[plain, nan_as_null].decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except PlainJsonError:
        raise
    except UnicodeEncodeError as error:
        raise PlainJsonError("half of a character in a text") from error
    except RecursionError as error:
        raise PlainJsonError("arrays or objects too deep inside each other") from error
    except ValueError as error:
        raise PlainJsonError(str(error)) from error
    return value


def _without_strings(data: bytes) -> bytes:
    return _STRINGS.sub(b'""', data)


def _depth(data: bytes) -> int:
    """Return how deep brackets lie inside each other; those in strings count too."""
    if data.count(b"[") + data.count(b"{") <= _DEEPEST:
        return 0
    deepest = depth = 0
    for start in range(0, len(data), _PIECE_BYTES):
        steps = np.frombuffer(data[start : start + _PIECE_BYTES].translate(_STEPS, _NO_BRACKETS), np.int8)
        depths = depth + steps.cumsum(dtype=np.int64)
        if len(depths):
            deepest, depth = max(deepest, int(depths.max())), int(depths[-1])
    return deepest


def _is_strange(data: bytes) -> bool:
    """Return whether a number may be too large; what stands in strings counts too."""
    for start in range(0, len(data), _PIECE_BYTES):
        # As far as a strange number may reach into the next piece.
        shape = data[start : start + _PIECE_BYTES + _MOST_DIGITS].translate(_SHAPE)
        if any(strange in shape for strange in _STRANGE_NUMBERS):
            return True
    return False


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < float("inf"):
        raise PlainJsonError("a number too large to be one")
    return value


def _short(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise PlainJsonError(f"an integer of more than {_MOST_DIGITS} digits")
    return int(text)


def _refused(name: str) -> None:
    raise PlainJsonError(f"{name}, which is no number")


def _null(_: str) -> None:
    return None


#: By whether every number is known to be small, and whether what is no number is read as null.
_DECODERS = {
    (plain, nan_as_null): json.JSONDecoder(
        parse_float=None if plain else _finite,
        parse_int=None if plain else _short,
        parse_constant=_null if nan_as_null else _refused,
    )
    for plain in (False, True)
    for nan_as_null in (False, True)
}
