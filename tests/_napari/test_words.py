"""What the core says on the command line, as the window says it."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

import napari_metastasis
from napari_metastasis._napari.forms import label_of
from napari_metastasis._napari.words import for_window
from napari_metastasis.errors import MetastasisError, NotASlideError, SlideError, StorageError
from napari_metastasis.settings import RefineSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.stains import swap_note
from napari_metastasis.storage import folder_gone, with_option

#: Lines of the core, and what the window says.
TABLE = {
    "expected a slide file, but a.svs is empty; copy it again from its source":
        "a.svs is empty. Copy it again from its source.",
    "expected a slide file, but /s/a.svs does not exist; check the path":
        "/s/a.svs does not exist. Check the path.",
    "expected a slide file, but /s/a.svs cannot be read (Permission denied); check the path and its permissions":
        "/s/a.svs cannot be read (Permission denied). Check the path and its permissions.",
    "expected a slide file, got /dev/null, which is no regular file; choose an SVS file":
        "Found /dev/null, which is no regular file, instead of a slide file. Choose an SVS file.",
    "expected a whole-slide image, got a text file (a.svs); choose an SVS file":
        "Found a text file (a.svs) instead of a whole-slide image. Choose an SVS file.",
    "expected a complete slide, but a.svs cannot be opened (no levels); copy it again with all files that belong to it":
        "a.svs cannot be opened (no levels). Copy it again with all files that belong to it.",
    "expected a complete TIFF file, but the headers of a.tif cannot be read; copy the slide again from its source":
        "The headers of a.tif cannot be read. Copy the slide again from its source.",
    "expected a brightfield slide, got fluorescence (DAPI) in a.ndpi; choose an H&E slide":
        "Found fluorescence (DAPI) in a.ndpi instead of a brightfield slide. Choose an H&E slide.",
    "expected a brightfield slide on a light ground, but 9% of a.tif is dark: a fluorescence image; choose another":
        "9% of a.tif is dark: a fluorescence image. Choose another.",
    "expected a slide that can be seen, got a.tif, all of which is said to be transparent; export it without it":
        "Found a.tif, all of which is said to be transparent, instead of a slide that can be seen. Export it without "
        "it.",
    "expected an H&E slide in RGB, got 1 grey channel(s) in a.tif: a fluorescence image; choose a brightfield slide":
        "Found 1 grey channel(s) in a.tif instead of an H&E slide in RGB: a fluorescence image. Choose a brightfield "
        "slide.",
    "expected 8 bits per channel in a.tif, got 16; export the slide as 8-bit RGB":
        "Found 16 instead of 8 bits per channel in a.tif. Export the slide as 8-bit RGB.",
    "expected a pixel size between 0.05 and 100 µm, got 400; look it up in the scanner's settings":
        "Found 400 instead of a pixel size between 0.05 and 100 µm. Look it up in the scanner's settings.",
    "expected a.tif to state its pixel size, but it does not; supply it in µm per pixel: --mpp on the command line, "
    "or “Set pixel size…” in napari (0.25 is usual at 40x)":
        "a.tif does not state its pixel size. Supply it in µm per pixel: “Set pixel size…” (0.25 is usual at 40x).",
    "expected square pixels, but a.tif states 1 x 2 µm; if that is an error of the file, supply the true size: --mpp "
    "on the command line, or “Set pixel size…” in napari":
        "a.tif states 1 x 2 µm. If that is an error of the file, supply the true size: “Set pixel size…”.",
    "expected level 2 of a.svs at 0,0, but it cannot be read (bad JPEG); copy the slide again with all files":
        "Level 2 of a.svs at 0,0 cannot be read (bad JPEG). Copy the slide again with all files.",
    "expected 900 bytes of a.svs at 7, but the file ends after 100; copy the slide again from its source":
        "a.svs: the file ends after 100. Copy the slide again from its source.",
    "expected an image tile of a.svs at 0,0, got damaged data (bad JPEG); copy the slide again from its source":
        "Found damaged data (bad JPEG) instead of an image tile of a.svs at 0,0. Copy the slide again from its source.",
    "expected an open slide, but a.svs was closed; open it again":
        "a.svs was closed. Open it again.",
    "expected the DICOM files of one slide in d, got 2 series: a, b; give one of these files":
        "Found 2 series instead of the DICOM files of one slide in d: a, b. Give one of these files.",
    "expected a selected shape, got none; draw one in a Shapes layer and select it, or scan the current view":
        "There is no selected shape. Draw one in a Shapes layer and select it, or scan the current view.",
    "expected a slide to show mined places on, got none that is open; open it first":
        "There is no slide to show mined places on that is open. Open it first.",
    "expected a model card at m.json, got no file; keep it beside the weights":
        "There is no model card at m.json. Keep it beside the weights.",
    "expected to write /r/a, got no permission; choose another folder with --output":
        "Could not write /r/a: no permission. Choose another folder under Advanced › Folder.",
    "expected to find the tissue first, but the scan was stopped; start it again":
        "The scan was stopped. Start it again.",
    "expected to choose an engine first, but the scan was stopped; start it again":
        "The scan was stopped. Start it again.",
    "expected room for a piece of the scan on cuda, but its memory is full; choose a smaller --roi-px":
        "There is no room for a piece of the scan on cuda: its memory is full. Choose a smaller Advanced › Piece size.",
    "expected room for a piece of the scan in memory, but it is full; choose a smaller --roi-px":
        "There is no room for a piece of the scan in memory: it is full. Choose a smaller Advanced › Piece size.",
    "expected OpenVINO for engine openvino, but it is not installed; run pip install 'napari-metastasis[openvino]', "
    "or choose --engine torch":
        "OpenVINO for engine openvino is not installed. Choose Advanced › Engine torch.",
    "expected a processor with bfloat16 for engine openvino, got one with float32; choose one of these as --precision, "
    "or --engine torch":
        "Found one with float32 instead of a processor with bfloat16 for engine openvino. Choose one of these under "
        "Advanced › Precision, or PyTorch under Advanced › Engine.",
    "expected an Apple GPU for device mps, got none; choose --device auto or cpu":
        "There is no Apple GPU for device mps. Choose Device auto or cpu.",
    "expected dense coefficient 2, which r was trained at, got 4: it refines worse; scan with --dense-coefficient 2":
        "Found 4 instead of dense coefficient 2, which r was trained at: it refines worse. Scan with Advanced › "
        "Detail 2.",
    "expected stains about as dense as in training, got 2.1 times as dense: answers are less sure; compare with the "
    "stain normalised (--stain normalise, or Stain under Advanced)":
        "Found 2.1 times as dense instead of stains about as dense as in training: answers are less sure. Compare with "
        "the stain normalised (Stain under Advanced).",
    "expected a heatmap at h.zarr, got something else; choose another folder":
        "Found something else instead of a heatmap at h.zarr. Choose another folder.",
    "expected a heatmap to finish, got damaged data in h.zarr (short); move it away, then scan again":
        "Found damaged data in h.zarr (short) instead of a heatmap to finish. Move it away, then scan again.",
    "expected no heatmap or one of the same scan at h.zarr, got one with other settings; choose another folder":
        "Found one with other settings instead of no heatmap or one of the same scan at h.zarr. Choose another folder.",
    "expected weights at m.safetensors, got a damaged file; fetch the model again":
        "Found a damaged file instead of weights at m.safetensors. Fetch the model again.",
    "expected threads between 0 and 64, got 99; choose a value in that range":
        "Found 99 instead of threads between 0 and 64. Choose a value in that range.",
    "expected stain to be one of auto, as-is, got blue; choose one of them":
        "Stain has to be one of auto, as-is, and is blue. Choose one of them.",
    "expected a refiner for m, got none; train one, or scan without --refine":
        "There is no refiner for m. Train one.",
    "expected the sample slide at /s/a.tif, got no file; make it with 'napari-metastasis sample'":
        "There is no sample slide at /s/a.tif.",
}  # fmt: skip


@pytest.mark.parametrize("line", TABLE)
def test_a_line_of_the_core_in_the_windows_words(line: str) -> None:
    assert for_window(line) == TABLE[line]


def test_a_line_of_another_form_stays_without_advice_for_the_command_line() -> None:
    assert for_window("nothing is written; start again with --overwrite") == "Nothing is written."
    for line in ("The disk is full.", "Stain 1.20 × as dense as in training", "two; parts"):
        assert for_window(line) == line


def test_an_error_may_say_itself_how_a_window_puts_it(tmp_path: Path) -> None:
    error = NotASlideError("expected a, got b; c").in_window("This is no slide.")
    assert str(error) == "expected a, got b; c"
    assert pickle.loads(pickle.dumps(error)).for_window == "This is no slide."
    assert "was deleted" in with_option(folder_gone(tmp_path)).for_window
    assert isinstance(folder_gone(tmp_path), StorageError)
    broken = tmp_path / "broken.svs"
    broken.write_text("no slide")
    with pytest.raises(SlideError) as caught:
        open_slide(broken)
    assert caught.value.for_window.startswith("broken.svs is not a slide that can be read. Choose an SVS,")
    with pytest.raises(SlideError) as caught:
        open_slide(tmp_path)
    assert caught.value.for_window.endswith(
        "holds no slide that can be read. Choose an SVS, NDPI, SCN, MRXS, CZI, DICOM, OME-Zarr or pyramidal TIFF file."
    )


def test_the_note_on_exchanged_colours_names_the_windows_switch() -> None:
    said = for_window(swap_note(-1.0))
    assert "--" not in said
    assert "Swap red and blue under Slide" in said


def lines_of_the_core() -> list[str]:
    """Return every line of the house's form in the rooms under the window, with x for what is filled in."""
    root = Path(napari_metastasis.__file__).parent
    found = set()
    for room in ("slides", "models", "scanning", "workflows/scan", "geometry", "settings", "_napari", "storage.py"):
        for file in [root / room] if room.endswith(".py") else sorted((root / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                text = "".join(str(one.value) if isinstance(one, ast.Constant) else "x" for one in parts)
                if isinstance(node, ast.JoinedStr | ast.Constant) and text.startswith("expected "):
                    found.add(text)
    return sorted(found)


def test_no_line_names_an_option_in_the_window_or_says_what_was_expected() -> None:
    lines = lines_of_the_core()
    assert len(lines) > 150
    for line in lines:
        said = for_window(line)
        assert not re.search(r"--|napari-metastasis |pip install", said), (line, said)
        if re.fullmatch(r"expected .+?, (?:got|but) .+", line):
            assert not re.search(r"\bexpected\b", said.lower()), (line, said)


def test_no_class_of_error_loses_its_words() -> None:
    for kind in MetastasisError.__subclasses__():
        assert kind("expected a, got b; c").in_window("d").for_window == "d"


def test_the_share_of_a_refined_map_is_called_as_its_switch_is():
    assert label_of(RefineSettings.SHARE) == "Share of fewer false alarms"
    assert label_of(RefineSettings.SWITCH).startswith("Fewer false alarms")
