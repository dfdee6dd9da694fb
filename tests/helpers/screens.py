"""Virtual screens for the windows of tests: one for each process, so that no window takes the focus from another's."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from dataclasses import dataclass

__all__ = ["VirtualScreen", "can_open_screens"]

#: What napari's canvas needs: room for a whole window, and OpenGL.
OPTIONS = ("-screen", "0", "1600x1200x24", "+extension", "GLX", "-nolisten", "tcp")

#: A busy machine takes seconds to start an X server.
PATIENCE_SECONDS = 60


def can_open_screens() -> bool:
    """Say whether this machine has the virtual X server, which only Linux needs."""
    return sys.platform == "linux" and shutil.which("Xvfb") is not None


@dataclass(frozen=True)
class VirtualScreen:
    """A running X server that shows nothing to anybody.

    Attributes
    ----------
    display
        What ``DISPLAY`` has to be for windows to open there.
    """

    display: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> VirtualScreen:
        """Start a server on a display that is free, and wait until it takes windows.

        Raises
        ------
        RuntimeError
            If it ends at once or does not answer.
        """
        reading, writing = os.pipe()
        command = ["Xvfb", "-displayfd", str(writing), *OPTIONS]
        process = subprocess.Popen(
            command,
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        with os.fdopen(reading) as answer:
            ready, _, _ = select.select([answer], [], [], PATIENCE_SECONDS)
            number = answer.readline().strip() if ready else ""
        if not number:
            process.kill()
            process.wait()
            raise RuntimeError(f"expected a screen from {' '.join(command)}, got none; run it by hand to see why")
        return cls(f":{number}", process)

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_SECONDS)
