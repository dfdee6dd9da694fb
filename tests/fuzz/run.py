"""Damages files of every kind at random for as long as it is told, and keeps what went wrong: ``make fuzz``.

Files are read in child processes, so that a crash, a hang or a full memory ends one of them and is a finding like any
error that is not the program's own. Each finding is a folder with the input and a ``finding.txt``, which says how to
get the same input again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: What reading one input may take: seconds, and bytes beside what the process held before.
MOST_SECONDS, MOST_BYTES = 10.0, 3 << 29
#: Where a child's memory ends, so that the machine's does not.
WALL_BYTES = 4 * MOST_BYTES
#: Until a child has imported everything and written whole files.
BEGIN_SECONDS = 180.0
#: Status of a child that ends because an input took too much memory.
FULL = 77
SOURCES = "/napari_metastasis/"


def main() -> int:
    """Run all kinds, or as a child one of them."""
    options = _options()
    if options.child:
        return _child(options.child, options.seed, options.folder, options.seconds)
    from fuzz_kinds import KINDS

    names = [name for name in KINDS if not options.kinds or name in options.kinds]
    share = options.minutes * 60 * options.workers / len(names)
    with ThreadPoolExecutor(options.workers) as pool:
        counts = dict(pool.map(lambda name: (name, _watch(name, options, share)), names))
    findings = sorted(path.parent.name for path in options.folder.glob("*/finding.txt"))
    for name in names:
        found = Counter(finding.split("--")[1] for finding in findings if finding.startswith(f"{_slug(name)}--"))
        listed = ", ".join(f"{count} × {what}" for what, count in found.items()) or "nothing"
        _say(f"{name:20} {counts[name]:8,} inputs: {listed}")
    _say(f"{sum(counts.values()):,} inputs, {len(findings)} findings in {options.folder}")
    return 1 if findings else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long, over all kinds")
    parser.add_argument("--kinds", nargs="*", help="these alone")
    parser.add_argument("--workers", type=int, default=2, help="children side by side")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="other inputs for each")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-findings"), help="where findings are kept")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _watch(name: str, options: argparse.Namespace, seconds: float) -> int:
    """Let children read inputs of a kind until its time is spent; return how many."""
    done, seed, left = 0, options.seed, seconds
    while left > 0:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            begun = time.monotonic()
            command = (
                sys.executable, __file__, "--child", name, "--seed", str(seed), "--seconds", str(left),
                "--folder", str(options.folder.resolve()),
            )  # fmt: skip
            log = Path(scratch, "log.txt")
            with log.open("wb") as errors:
                child = subprocess.Popen(command, cwd=scratch, stdout=subprocess.PIPE, stderr=errors)
            read, what = _follow(child)
            done += read
            left -= time.monotonic() - begun
            if what:
                told = f"seed {seed}, input {read - 1}\n{log.read_text()}"
                _keep(options.folder, name, what, Path(scratch, "input"), told)
        seed += 1
    return done


def _follow(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return how many inputs a child began to read, and what ended it; nothing where its time was over."""
    assert child.stdout is not None
    read, wait = 0, BEGIN_SECONDS
    with child:
        while select.select([child.stdout], [], [], wait)[0]:
            # A line for each input that is begun.
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                break
            read, wait = read + piece.count(b"\n"), MOST_SECONDS
        else:
            child.kill()
            return read, "hang"
    if child.returncode == FULL:
        return read, "memory"
    return read, f"crash{child.returncode}" if child.returncode else ""


def _keep(folder: Path, name: str, what: str, files: Path, told: str) -> None:
    """Keep the first input of each finding."""
    sign = hashlib.sha256(what.encode()).hexdigest()[:6]
    kept = folder / f"{_slug(name)}--{what.partition(' ')[0]}--{sign}"
    if not kept.exists():
        shutil.copytree(files, kept)
        (kept / "finding.txt").write_text(f"{name}: {what}\n{told}")
        _say(f"found: {kept}")


def _child(name: str, seed: int, folder: Path, seconds: float) -> int:
    """Read damaged inputs of a kind in the working directory, one after the other; a line for each, as it begins."""
    import numpy as np
    from fuzz_kinds import KINDS, damage, lay_out, read_or_refuse, write_whole

    kind, here = KINDS[name], Path("input")
    with tempfile.TemporaryDirectory() as scratch:
        whole = write_whole(kind, Path(scratch))
    lay_out(whole, here)
    read_or_refuse(kind, here)
    wall = _mapped_bytes() + WALL_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wall, wall))
    until = time.monotonic() + seconds
    for number in _numbers():
        files = damage(kind, whole, np.random.default_rng([seed, number]))
        shutil.rmtree(here)
        lay_out(files, here)
        # Before anything is done to it: what is read may write into its folder.
        held = _peak_bytes()
        _say(str(number))
        try:
            read_or_refuse(kind, here)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            shutil.rmtree(here, ignore_errors=True)
            lay_out(files, here)
            told = "".join(traceback.format_exception(error))
            _keep(folder, name, f"{type(error).__name__} {_place(error)}", here, f"seed {seed}, input {number}\n{told}")
        if _peak_bytes() - held > MOST_BYTES:
            lay_out(files, here)
            return FULL
        if time.monotonic() > until:
            return 0
    return 0


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _place(error: Exception) -> str:
    """Return the innermost line of the program that an error passed: one finding for each."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if SOURCES in frame.filename]
    return f"{frames[-1].filename.rpartition(SOURCES)[2]}:{frames[-1].lineno}" if frames else "elsewhere"


def _peak_bytes() -> int:
    # Of this process since it began: what was held before is taken off.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _mapped_bytes() -> int:
    import psutil

    return psutil.Process().memory_info().vms


if __name__ == "__main__":
    sys.exit(main())
