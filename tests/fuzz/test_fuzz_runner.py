"""What watches the children of ``make fuzz`` tells a hang, a crash and a full memory from an end; inputs are kept."""

from __future__ import annotations

import subprocess
import sys

import pytest
import run


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("print(0); print(1)", (2, "")),
        ("print(0, flush=True); import time; time.sleep(60)", (1, "hang")),
        ("print(0, flush=True); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", (1, "crash-11")),
        (f"print(0); import sys; sys.exit({run.FULL})", (1, "memory")),
        ("print(0); import sys; sys.exit(1)", (1, "crash1")),
    ],
)
def test_how_a_child_ends_is_told(code, ended, monkeypatch):
    monkeypatch.setattr(run, "MOST_SECONDS", 0.5)
    assert run._follow(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)) == ended


def test_the_first_input_of_each_finding_is_kept(tmp_path, capsys):
    for number, what in enumerate(("crash-11", "crash-11", "KeyError a.py:3", "KeyError a.py:4")):
        files = tmp_path / f"input{number}"
        files.mkdir()
        (files / "a.csv").write_text(str(number))
        run._keep(tmp_path / "found", "a kind", what, files, f"seed 1, input {number}")
    kept = sorted((path / "a.csv").read_text() for path in (tmp_path / "found").iterdir())
    assert kept == ["0", "2", "3"]
    assert all((path / "finding.txt").read_text().startswith("a kind: ") for path in (tmp_path / "found").iterdir())
    assert capsys.readouterr().out.count("found: ") == 3
