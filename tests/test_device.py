"""What a trial's process does to itself."""

import torch

from duel.device import claim


def test_claim_keeps_to_the_reserved_cores():
    before = torch.get_num_threads()
    try:
        assert claim({"cpu": 1, "gpu": 0.0}) == torch.device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
