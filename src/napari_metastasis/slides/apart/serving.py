"""What runs in a reader's own process: ``python serving.py MODULE FILE CACHE_BYTES``; it answers until its input ends.

A request is a line of JSON; an answer is one, too, and where it tells the size of bytes, these follow. Whatever the
library prints goes nowhere.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["PATIENCE_S", "ServedReader", "serve"]

#: Longer than any network share takes for a tile; a damaged file can keep a decoder busy for ever. The program ends
#: this process then; where it was itself ended by force, the system does, a little later.
PATIENCE_S = 300.0
_ALONE_S = int(PATIENCE_S) + 10

UInt8Array = npt.NDArray[np.uint8]


class ServedReader(Protocol):
    """An open file, read by one thread. Its methods raise what the library raises."""

    def facts(self) -> dict[str, Any]:
        """Return what the file states, for JSON.

        ``levels`` holds width and height, and those of a tile, of each; ``associated`` names the images beside the
        slide; ``block_px``, where it is there, is the side of what is asked for at once, and else a tile is.
        """

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 3), or 4 where some may be transparent."""

    def associated(self, name: str, most_px: int) -> UInt8Array | bytes | tuple[int, int]:
        """Return an image beside the slide: pixels, a PNG or JPEG, or its width and height where it has too many."""


def serve(open_file: Callable[[], ServedReader], requests: Iterable[bytes], answers: BinaryIO) -> None:
    """Open a file, say what it states, and answer requests."""
    try:
        reader = open_file()
        _answer(answers, {"facts": reader.facts()})
    except ImportError as error:
        _answer(answers, {"missing": str(error)})
        return
    # Libraries raise what they like on damaged files.
    except Exception as error:  # noqa: BLE001
        _answer(answers, {"error": _said(error)})
        return
    for line in requests:
        try:
            asked = json.loads(line)
            found = reader.read(*asked["read"]) if "read" in asked else reader.associated(*asked["associated"])
        except Exception as error:  # noqa: BLE001
            _answer(answers, {"error": _said(error)})
            continue
        if isinstance(found, tuple):
            _answer(answers, {"too_large": list(found)})
        elif isinstance(found, bytes):
            _answer(answers, {"bytes": len(found)}, found)
        else:
            data = np.ascontiguousarray(found, np.uint8)
            _answer(answers, {"bytes": data.nbytes, "shape": list(data.shape)}, data.reshape(-1).data)


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    # Some libraries put a line of their own source before what they have to say.
    return re.sub(r"^\S+\.(cpp|c|h):\d+:\s*", "", lines[0])[:160] if lines else type(error).__name__


def _answer(answers: BinaryIO, head: dict[str, Any], data: bytes | memoryview = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n")
    answers.write(data)
    answers.flush()


def _within(seconds: int, requests: Iterable[bytes]) -> Iterator[bytes]:
    """Yield requests, and let the system end this process where an answer takes longer."""
    _end_in(0)
    for line in requests:
        _end_in(seconds)
        yield line
        _end_in(0)


def _end_in(seconds: int) -> None:
    # Windows has no such clock.
    if alarm := getattr(signal, "alarm", None):
        alarm(seconds)


def _main() -> None:
    module, file, cache_bytes = sys.argv[1:]
    # What C libraries print would break into the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _end_in(_ALONE_S)
    serve(
        lambda: runpy.run_path(module)["open_file"](file, int(cache_bytes)),
        _within(_ALONE_S, os.fdopen(0, "rb", closefd=False)),
        answers,
    )


if __name__ == "__main__":
    _main()
