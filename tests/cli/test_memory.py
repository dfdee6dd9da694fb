"""Commands that run a network on the processor keep the memory that it frees."""

import platform
import subprocess
import sys

import pytest

#: Prints how often the system had to hand out memory for the second of two rounds.
_ROUNDS = """
import resource, sys
import numpy as np
from napari_metastasis.cli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(5_000_000)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems keep memory as they like")
def test_freed_memory_is_used_again():
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", _ROUNDS, how], check=True, capture_output=True).stdout)
        for how in ("give back", "keep")
    )
    assert kept < given_back / 10
