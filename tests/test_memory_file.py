"""Small files in which the program remembers something for its user."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from napari_metastasis.memory_file import change_memory, memory_entries, read_memory


def test_threads_forget_nothing_that_another_has_just_remembered(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "memory.json"

    def remember(number: int) -> None:
        change_memory(path, lambda before: [*(before or []), number])

    threads = [threading.Thread(target=remember, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(path.read_text())) == list(range(20))


@pytest.mark.parametrize("text", ["", "{", "[" * 500, "NaN?"])
def test_what_is_damaged_is_forgotten_and_written_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "memory.json"
    path.write_text(text)
    assert read_memory(path) is None
    assert change_memory(path, lambda before: {**memory_entries(before), "a": 1}) == {"a": 1}
    assert read_memory(path) == {"a": 1}


def test_a_disk_that_refuses_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "memory.json"
    assert change_memory(path, lambda _: [1]) == [1]
    assert read_memory(path) is None


def test_what_stays_as_it_is_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    change_memory(path, lambda _: {"a": 1})
    before = path.stat().st_mtime_ns, path.stat().st_ino
    change_memory(path, dict)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
