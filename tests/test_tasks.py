"""What the list of tasks says without importing torch is what their passes are."""

from __future__ import annotations

import pytest

from napari_metastasis.tasks import pass_tasks, resolve


@pytest.mark.parametrize("task", pass_tasks(), ids=lambda task: task.name)
def test_a_task_and_its_pass_say_the_same_of_the_map(task):
    writes = resolve(task.scan_pass).writes
    assert (writes.name, writes.stands_alone) == (task.writes, task.settings.stands_alone())
