"""The program as a whole: what it loads, how it fails, how it is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from cli.conftest import Run
from napari_metastasis import __version__
from napari_metastasis.cli import main
from napari_metastasis.errors import UnknownModelError
from napari_metastasis.settings import ScanSettings

_HEAVY = {"torch", "napari", "qtpy", "openvino", "zarr", "dask", "skimage", "lightning"}


def _loaded(*code: str) -> set[str]:
    """Return which heavy packages a fresh interpreter has loaded after ``code``."""
    report = f"import sys; print(*({_HEAVY!r} & set(sys.modules)), file=sys.__stderr__)"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*code, report])], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


def test_import_of_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import napari_metastasis") == set()


@pytest.mark.parametrize(
    "command",
    [[], ["scan"], ["view"], ["evaluate"], ["train"], ["train", "detector"], ["train", "refiner"], ["sample", "slide"]],
)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = f"from napari_metastasis.cli import main\ntry: main({[*command, '--help']!r})\nexcept SystemExit: pass"
    assert _loaded(code) == set()


def test_help_is_fast(process: Run) -> None:
    # The processor's time, because a busy machine stretches every other; torch alone takes more.
    before = os.times()
    answer = process("scan", "--help")
    after = os.times()
    assert answer.status == 0
    assert "--dense-coefficient" in answer.out
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.5


def test_every_setting_of_a_scan_is_an_option(here: Run) -> None:
    text = here("scan", "--help").out
    named = {"model", "region", "mpp", "output", "json", "threshold", "no-tissue"}
    for name in named | {item.name.replace("_", "-") for item in fields(ScanSettings)}:
        assert f"--{name}" in text


def test_version(here: Run) -> None:
    answer = here("--version")
    assert (answer.status, answer.out, answer.err) == (0, f"napari-metastasis {__version__}\n", "")


def test_no_arguments_show_the_commands(here: Run) -> None:
    answer = here()
    assert answer.status == 0
    for command in ("view", "scan", "evaluate", "train", "models", "sample", "demo"):
        assert command in answer.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], ["bogus", "napari-metastasis --help"]),
        (["scan"], ["slide", "napari-metastasis scan --help"]),
        (["scan", "x", "--bogus"], ["--bogus"]),
        (["scan", "x", "--region", "1", "2"], ["--region", "4"]),
        (["scan", "x", "--dense-coefficient", "3"], ["dense-coefficient", "1, 2, 4", "got 3"]),
        (["scan", "x", "--threshold", "1.5"], ["threshold", "1.5"]),
        (["scan", "x", "--threshold", "nan"], ["threshold", "nan"]),
        (["scan", "x", "--threads", "many"], ["--threads"]),
        (["models"], ["napari-metastasis models --help"]),
        (["evaluate"], ["--patches"]),
        (["train", "detector", "--epochs", "0"], ["--"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(here: Run, arguments: list[str], words: list[str]) -> None:
    here(*arguments).fails_with(*words, status=2)


@pytest.mark.parametrize("arguments", [["--debug", "models", "show", "nope"], ["models", "show", "nope", "--debug"]])
def test_debug_lets_the_error_through_wherever_it_stands(arguments: list[str]) -> None:
    with pytest.raises(UnknownModelError, match="nope"):
        main(arguments)


def test_fault_of_the_program_is_one_line_too() -> None:
    code = """
import sys
from napari_metastasis.cli import main, view
def broken(*_, **__): raise KeyError('two\\nlines')
view.open_window = broken
sys.argv = ['napari-metastasis', 'view', 'x']
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unexpected KeyError" in done.stderr
    assert "--debug" in done.stderr


@pytest.mark.parametrize(("former", "now"), [("scannet", "detector"), ("spatial", "refiner")])
def test_commands_that_train_are_found_under_their_earlier_names(here: Run, former: str, now: str) -> None:
    answer = here("train", former, "--help")
    assert answer.status == 0
    assert answer.err == f"napari-metastasis: train {former} is called train {now} now\n"
    assert (
        answer.out.replace(former, now).split()[4:] == here("train", now, "--help").out.replace(former, now).split()[4:]
    )
    assert former not in here("train", "--help").out
