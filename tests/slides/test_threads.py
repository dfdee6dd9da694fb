"""How many threads read a slide."""

from __future__ import annotations

import pytest

from napari_metastasis.slides import reading_threads, threads


@pytest.mark.parametrize(
    ("cores", "beside_network", "expected"),
    [(1, True, 2), (64, True, 2), (1, False, 2), (2, False, 2), (6, False, 6), (8, False, 8), (64, False, 8)],
)
def test_automatic(monkeypatch, cores, beside_network, expected):
    monkeypatch.setattr(threads, "_cores", lambda: cores)
    assert reading_threads(0, beside_network=beside_network) == expected


@pytest.mark.parametrize("beside_network", [True, False])
def test_what_was_asked_for(monkeypatch, beside_network):
    monkeypatch.setattr(threads, "_cores", lambda: 4)
    assert reading_threads(13, beside_network=beside_network) == 13


def test_cores_that_the_process_may_not_use_do_not_count(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _pid: {4, 9, 11}, raising=False)
    assert threads._cores() == 3
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert threads._cores() == 1
