"""Readers in processes of their own: what ends or confuses them is a damaged slide, and never more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from napari_metastasis.errors import CorruptSlideError, MissingDependencyError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.apart.backend import ApartBackend
from napari_metastasis.slides.apart.process import EndedError, LibraryError, ReadingError, ReadingProcess
from napari_metastasis.slides.backend import Metadata

#: A library whose tiles hold where they lie, which prints, raises and dies as compiled ones do.
TOY = """
    import os, sys, time
    import numpy as np

    class File:
        def facts(self):
            print("a library says something", flush=True)
            os.write(2, b"and a warning")
            return {"levels": [[600, 500, 100, 300], [300, 250, 2000, 256]], "associated": ["label", "huge", "jpeg"]}

        def read(self, level, x, y, width, height):
            os.write(1, b"tile")
            if level == 0 and (x, y) == (256, 300):
                os._exit(139)
            if level == 0 and (x, y) == (0, 300):
                raise RuntimeError("no such\\ntile")
            if level == 0 and (x, y) == (512, 300):
                return np.zeros((3, 3, 3), np.uint8)
            rows, columns = np.mgrid[y : y + height, x : x + width]
            return np.stack([rows % 251, columns % 251, np.full_like(rows, level)], axis=-1).astype(np.uint8)

        def associated(self, name, most_px):
            if name == "label":
                return np.full((20, 30, 3), 7, np.uint8)
            return (1 << 20, 1 << 20) if name == "huge" else b"no picture"

    def open_file(path, cache_bytes):
        if path.endswith("damaged.toy"):
            raise ValueError("/src/reader.cpp:99:it begins wrongly")
        if path.endswith("deadly.toy"):
            os._exit(139)
        if path.endswith("lacking.toy"):
            import no_such_library
        return File()
"""


@pytest.fixture
def toy(tmp_path):
    module = tmp_path / "toy.py"
    module.write_text(textwrap.dedent(TOY))
    return module


@pytest.fixture
def opened(toy, tmp_path):
    backend = opened_toy(toy, tmp_path / "slide.toy")
    yield backend
    backend.close()


def opened_toy(toy, path, describe=lambda _, name: Metadata(name)):
    return ApartBackend(toy, path, cache_bytes=1 << 22, name="toy", describe=describe)


def expected(level, region):
    rows, columns = np.mgrid[region.y : region.bottom, region.x : region.right]
    return np.stack([rows % 251, columns % 251, np.full_like(rows, level)], axis=-1).astype(np.uint8)


def test_tiles_come_from_another_process(opened, capfd):
    assert opened.metadata.format == "slide.toy"
    assert [level.size for level in opened.levels] == [Size(600, 500), Size(300, 250)]
    assert [level.tile for level in opened.levels] == [Size(100, 300), Size(2000, 256)]
    for level, region in ((0, Region(3, 5, 590, 290)), (1, Region(0, 0, 300, 250))):
        np.testing.assert_array_equal(opened.read(level, region), expected(level, region))
    assert capfd.readouterr() == ("", ""), "what libraries print goes nowhere"


@pytest.mark.parametrize(
    ("region", "word"),
    [((10, 320, 9, 9), "no such)"), ((300, 320, 9, 9), "its reader ended"), ((520, 320, 9, 9), "got [3, 3, 3]")],
)
def test_a_tile_that_cannot_be_read(opened, region, word):
    for _ in range(2):
        with pytest.raises(CorruptSlideError) as caught:
            opened.read(0, Region(*region))
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)
    good = Region(260, 20, 40, 40)
    np.testing.assert_array_equal(opened.read(0, good), expected(0, good))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("damaged.toy", CorruptSlideError, ("(it begins wrongly)", "copy it again")),
        ("deadly.toy", CorruptSlideError, ("its reader ended", "copy it again")),
        ("lacking.toy", MissingDependencyError, ("no_such_library", "install it again")),
    ],
)
def test_a_file_that_cannot_be_opened(toy, tmp_path, name, error, words):
    with pytest.raises(error) as caught:
        opened_toy(toy, tmp_path / name)
    for word in words:
        assert word in str(caught.value)


def test_what_a_file_states_is_refused(toy, tmp_path):
    def refuse(_, name):
        raise NotASlideError(f"expected a slide, got {name}; choose another")

    with pytest.raises(NotASlideError):
        opened_toy(toy, tmp_path / "other.toy", refuse)
    module = tmp_path / "wide.py"
    module.write_text(textwrap.dedent(TOY).replace("[600, 500,", "[1 << 40, 500,"))
    with pytest.raises(CorruptSlideError, match="px a side"):
        opened_toy(module, tmp_path / "wide.toy")


def test_images_beside_the_slide(opened):
    np.testing.assert_array_equal(opened.associated["label"](), np.full((20, 30, 3), 7, np.uint8))
    for name in ("huge", "jpeg"):
        with pytest.raises(CorruptSlideError):
            opened.associated[name]()


def test_a_process_that_somebody_else_ended_is_started_again(opened):
    (process,) = opened._idle
    process._process.send_signal(signal.SIGKILL)
    process._process.wait(10)
    region = Region(0, 0, 90, 90)
    np.testing.assert_array_equal(opened.read(0, region), expected(0, region))


def test_a_read_that_was_interrupted_leaves_no_answer_for_the_next(opened, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ReadingProcess, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened.read(0, Region(0, 0, 90, 90))
    other = Region(260, 20, 40, 40)
    np.testing.assert_array_equal(opened.read(0, other), expected(0, other))


def test_threads_share_a_few_processes(opened):
    regions = [Region(x, y, 60, 40) for x in range(0, 200, 23) for y in range(0, 250, 31)]

    def is_right(region):
        opened.forget()
        return np.array_equal(opened.read(0, region), expected(0, region))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, regions))
    assert 1 <= len(opened._idle) <= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_forked_process_asks_readers_of_its_own(opened):
    region = Region(0, 0, 90, 90)
    pid = os.fork()
    if pid == 0:
        good = np.array_equal(opened.read(0, region), expected(0, region))
        opened.close()
        os._exit(0 if good else 1)
    np.testing.assert_array_equal(opened.read(0, region), expected(0, region))
    assert os.waitpid(pid, 0)[1] == 0
    np.testing.assert_array_equal(opened.read(1, region), expected(1, region))


def test_it_ends_with_the_program_however_that_ends(toy):
    code = f"""
import os, pathlib
from napari_metastasis.slides.apart.process import ReadingProcess
process = ReadingProcess(pathlib.Path({str(toy)!r}), pathlib.Path("slide.toy"), 0)
print(process._process.pid, flush=True)
os._exit(1)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(said.stdout)
    ended = threading.Event()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            ended.set()
            break
        ended.wait(0.1)
    assert ended.is_set()


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the system has no such clock")
def test_a_reader_whose_program_is_gone_does_not_decode_for_ever():
    stuck = (
        "from napari_metastasis.slides.apart.serving import _within\n"
        "for _ in _within(1, [b'a', b'b']):\n"
        "    while True: pass\n"
    )
    assert subprocess.run([sys.executable, "-c", stuck], timeout=60, check=False).returncode == -signal.SIGALRM
    done = stuck.replace("while True: pass", "pass") + "import time; time.sleep(1.5)"
    assert subprocess.run([sys.executable, "-c", done], timeout=60, check=False).returncode == 0


def test_the_errors_of_a_process(toy, tmp_path):
    for name, error in (("damaged.toy", ReadingError), ("deadly.toy", EndedError), ("lacking.toy", LibraryError)):
        with pytest.raises(error):
            ReadingProcess(toy, tmp_path / name, 0)
