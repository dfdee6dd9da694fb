"""Progress, tables and signals."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import warnings

import pytest

from napari_metastasis.cli import console


def test_note_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("two\nlines  here")
    assert capsys.readouterr() == ("", "napari-metastasis: two lines here\n")


def test_json_is_one_object_with_its_signs_kept(capsys: pytest.CaptureFixture[str]) -> None:
    console.say_json({"unit": "µm", "value": None})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"unit": "µm", "value": None}
    assert "µ" in out
    assert err == ""


def test_json_refuses_what_no_reader_of_json_knows() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        console.say_json({"score": float("nan")})


def test_table_keeps_brackets_and_aligns_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console.say_table(("name", "n"), [("[a]", "7"), ("b", "1,234")])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "  [a]        7" in lines
    assert "  b      1,234" in lines


def test_progress_in_a_file_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.show_progress("Scanning", unit="cells") as progress:
        progress(1000, 4000)  # finished by an earlier scan: no part of the rate
        assert capsys.readouterr().err == ""
        now += 60
        progress(2200, 4000)
        now += 1
        progress(2220, 4000)
    assert capsys.readouterr().err == "napari-metastasis: Scanning: 55%, 20.0 cells/s, 2 min left\n"


def _all_of(master: int) -> str:
    """Return what was written to a terminal; one read may give a part of it."""
    written = b""
    while select.select([master], [], [], 0.2)[0]:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    return written.decode()


def test_progress_on_a_terminal_is_a_bar_that_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        with console.show_progress("Scanning", unit="cells") as progress:
            progress(0, 10)
            progress(5, 10)
            written = ""
            while "50%" not in written:  # the bar is drawn ten times a second
                written += os.read(master, 4096).decode()
    written += _all_of(master)
    os.close(master)
    assert "Scanning" in written
    assert "50%" in written
    # The cursor goes up and the line is cleared.
    assert written.rstrip("\r\n").endswith("\x1b[2K")


def test_first_interrupt_asks_and_second_insists() -> None:
    before = signal.getsignal(signal.SIGINT)
    with console.stop_on_interrupt() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_termination_asks_to_stop() -> None:
    with console.stop_on_interrupt() as should_stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()


def test_libraries_are_quiet_inside_and_heard_again_after(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with console.quiet_libraries(quiet=True):
        warnings.warn("nobody can act on this", UserWarning, stacklevel=1)
        logging.getLogger("tifffile").error("nor on this")
    assert caplog.records == []
    assert capsys.readouterr() == ("", "")
    logging.getLogger("tifffile").error("heard")
    assert [record.message for record in caplog.records] == ["heard"]
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


@pytest.mark.parametrize("quiet", [True, False])
def test_what_the_package_itself_warns_of_is_one_line(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    logger = logging.getLogger("napari_metastasis.sampling.slide_reader")
    with console.quiet_libraries(quiet=quiet):
        try:
            raise OSError("the disk is away")
        except OSError:
            logger.warning("%s is passed\nover", "slide-1", exc_info=True)
        logger.info("for developers")
        # The name alone does not make it ours.
        logging.getLogger("napari_metastasis_others").warning("not ours")
    assert capsys.readouterr() == ("", "napari-metastasis: slide-1 is passed over\n")
    logger.warning("nobody listens here")
    assert capsys.readouterr() == ("", "")


def test_a_library_that_is_imported_later_is_quiet_with_handlers_and_levels_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As torch and Lightning do it."""
    logger = logging.Logger("lightning.pytorch", logging.INFO)
    with console.quiet_libraries(quiet=True):
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.error("GPU available: False")
    assert capsys.readouterr() == ("", "")
    logger.error("heard")
    assert capsys.readouterr().err == "heard\n"
