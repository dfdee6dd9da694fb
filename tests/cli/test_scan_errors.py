"""What a scan says when it cannot go on: one line, status 1, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import FIXED_ENGINE, Answer, Run


@pytest.fixture
def scan(here: Run, model: Path, tmp_path: Path) -> Callable[..., Answer]:
    """Scan into a folder that does not exist yet, and check afterwards that a failure left it so."""

    def run(slide: Path, *options: object) -> Answer:
        output = tmp_path / "output"
        answer = here("scan", slide, "--output", output, "--model", model, *FIXED_ENGINE, *options)
        assert answer.status == 0 or not output.exists()
        return answer

    return run


@pytest.mark.shared
def test_slide_without_pixel_size(scan: Callable[..., Answer], shared_data: Path) -> None:
    scan(shared_data / "slides/tcga-cr-7395-01a-01-ts1.svs").fails_with("pixel size", "--mpp")


@pytest.mark.shared
def test_not_a_slide(scan: Callable[..., Answer], shared_data: Path) -> None:
    scan(shared_data / "slides/broken.svs").fails_with("expected a whole-slide image", "broken.svs", "choose")


@pytest.mark.shared
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_slide(scan: Callable[..., Answer], cmu: Path, tmp_path: Path, share: float) -> None:
    data = cmu.read_bytes()
    cut = tmp_path / "cut.svs"
    cut.write_bytes(data[: int(len(data) * share)])
    scan(cut).fails_with("cut.svs", "cut off", "again")


@pytest.mark.shared
def test_fluorescence(scan: Callable[..., Answer], shared_data: Path) -> None:
    scan(shared_data / "slides/test3-DAPI-2.ndpi").fails_with("fluorescence", "H&E")


def test_folder(scan: Callable[..., Answer], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    scan(folder).fails_with("expected a slide file", "folder")


def test_missing_file(scan: Callable[..., Answer], tmp_path: Path) -> None:
    scan(tmp_path / "nowhere.svs").fails_with("nowhere.svs", "does not exist")


@pytest.mark.parametrize("suffix", [".svs", ".tif", ".ndpi", ".mrxs"])
def test_empty_file(scan: Callable[..., Answer], tmp_path: Path, suffix: str) -> None:
    empty = tmp_path / f"empty{suffix}"
    empty.touch()
    scan(empty).fails_with("empty")


@pytest.mark.parametrize("suffix", [".svs", ".tif", ".ndpi", ".mrxs", ".dcm"])
def test_random_bytes(scan: Callable[..., Answer], tmp_path: Path, suffix: str) -> None:
    noise = tmp_path / f"noise{suffix}"
    noise.write_bytes(np.random.default_rng(7).bytes(100_000))
    scan(noise).fails_with("expected a", f"noise{suffix}")


@pytest.mark.shared
@pytest.mark.parametrize("region", [(5000, 0, 10, 10), (0, 5000, 10, 10), (-500, -500, 100, 100), (0, 0, 0, 10)])
def test_region_outside_the_slide(scan: Callable[..., Answer], cmu: Path, region: tuple[int, ...]) -> None:
    scan(cmu, "--region", *region).fails_with("expected a region on the slide", f"x={region[0]}", "choose")


@pytest.mark.shared
def test_device_that_is_not_there(scan: Callable[..., Answer], cmu: Path) -> None:
    import torch

    absent = f"cuda:{torch.cuda.device_count()}" if torch.cuda.is_available() else "cuda"
    scan(cmu, "--device", absent).fails_with(absent, "--device")


@pytest.mark.shared
def test_unknown_model(scan: Callable[..., Answer], cmu: Path) -> None:
    scan(cmu, "--model", "nobody").fails_with("'nobody'", "models list")


@pytest.mark.shared
@pytest.mark.parametrize("damage", ["changed", "cut", "empty", "missing", "no card", "broken card"])
def test_damaged_weights(scan: Callable[..., Answer], cmu: Path, model: Path, tmp_path: Path, damage: str) -> None:
    weights = Path(shutil.copy(model, tmp_path / "damaged.safetensors"))
    card = Path(shutil.copy(model.with_suffix(".json"), tmp_path / "damaged.json"))
    data = weights.read_bytes()
    match damage:
        case "changed":
            weights.write_bytes(data[:-4] + b"\x00\x01\x02\x03")
        case "cut":
            weights.write_bytes(data[: len(data) // 2])
        case "empty":
            weights.write_bytes(b"")
        case "missing":
            weights.unlink()
        case "no card":
            card.unlink()
        case "broken card":
            card.write_text(card.read_text("utf-8")[:100], "utf-8")
    scan(cmu, "--model", weights).fails_with("damaged")


# Disks


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk in memory, where this user may; ``mount("remount,size=1m")`` changes it."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this user may not mount a disk: {done.stderr.strip()}")
        return disk

    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a disk")
    yield mounted
    while os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)


def _assert_whole(folder: Path) -> None:
    """Assert that every file which is there can be read to its end."""
    assert not list(folder.rglob("*.part"))
    assert not list(folder.rglob("*.partial"))
    for name in ("run.json", "lesions.geojson"):
        for path in folder.rglob(name):
            json.loads(path.read_text("utf-8"))
    for path in folder.rglob("zarr.json"):
        json.loads(path.read_text("utf-8"))


@pytest.mark.shared
@pytest.mark.parametrize("size_kib", [4, 16, 64, 80])
def test_full_disk_and_the_same_command_once_there_is_room(
    here: Run, cmu: Path, model: Path, cmu_scan: Answer, mount: Callable[[str], Path], size_kib: int
) -> None:
    disk = mount(f"size={size_kib}k")
    command = ("scan", cmu, "--model", model, *FIXED_ENGINE, "--json", "--output")
    here(*command, disk / "out").fails_with("a full disk", "free some space")
    _assert_whole(disk)
    mount("remount,size=4m")
    after = here(*command, disk / "out").json
    assert after["finished"]
    assert after["lesions"] == cmu_scan.json["lesions"]


@pytest.mark.shared
def test_full_disk_beside_the_slide_names_the_way_out(
    process: Run, cmu: Path, model: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount(f"size={cmu.stat().st_size // 1024 + 8}k")
    slide = Path(shutil.copy(cmu, disk))
    (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
    process("scan", slide, "--model", model, *FIXED_ENGINE).fails_with("a full disk", "--output")


@pytest.mark.shared
def test_read_only_folder(here: Run, cmu: Path, model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if os.name == "posix" and os.geteuid() == 0:
        # Rights mean nothing to root; a read-only disk does.
        mount = request.getfixturevalue("mount")
        disk = mount("size=8m")
        slide = Path(shutil.copy(cmu, disk))
        mount("remount,ro")
        words = ("read-only",)
    else:
        disk = tmp_path / "read-only"
        disk.mkdir()
        slide = Path(shutil.copy(cmu, disk))
        disk.chmod(0o555)
        words = ("permission",)
    here("scan", slide, "--model", model, *FIXED_ENGINE).fails_with(*words, "--output")
    assert [path.name for path in disk.iterdir()] == [slide.name]
    elsewhere = here("scan", slide, "--model", model, *FIXED_ENGINE, "--json", "--output", tmp_path / "elsewhere")
    assert elsewhere.json["finished"]


@pytest.mark.shared
def test_output_that_is_a_file(here: Run, cmu: Path, model: Path, tmp_path: Path) -> None:
    there = tmp_path / "notes.txt"
    there.write_text("mine")
    for output in (there, there / "inside"):
        here("scan", cmu, "--model", model, *FIXED_ENGINE, "--output", output).fails_with("notes.txt", "choose another")
    assert there.read_text() == "mine"


@pytest.mark.shared
@pytest.mark.parametrize("arguments", [["broken.svs"], ["CMU-1-Small-Region.svs", "--device", "cuda:99"]])
def test_as_a_process_nothing_else_reaches_standard_error(
    process: Run, shared_data: Path, model: Path, arguments: list[str], tmp_path: Path
) -> None:
    slide, *options = arguments
    answer = process("scan", shared_data / "slides" / slide, "--model", model, "--output", tmp_path / "out", *options)
    answer.fails_with()
