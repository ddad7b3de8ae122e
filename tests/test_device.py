"""What a trial's process does to itself."""

import platform
import subprocess
import sys

import pytest
import torch

from duel.device import claim

PAGE_FAULTS = """
import resource, torch
from duel.device import keep_memory
keep_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
make = lambda: torch.ones(16 << 20)  # 64 MiB: 16,384 pages, more than glibc keeps by itself
make()
before = faults()
for _ in range(8):
    make()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", PAGE_FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8_000  # without it 131,072


def test_claim_keeps_to_the_reserved_cores():
    before = torch.get_num_threads()
    try:
        assert claim({"cpu": 1, "gpu": 0.0}) == torch.device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
