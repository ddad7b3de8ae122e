"""What a trial's process does to itself."""

import pytest
import torch

from duel import device
from duel.device import claim, claimed, machine_failed


def test_claim_keeps_to_the_reserved_cores():
    before = torch.get_num_threads()
    try:
        assert claim({"cpu": 1, "gpu": 0.0}) == torch.device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_reserved_gpu_that_can_not_be_used_is_no_reason_to_train_on_the_cpu(monkeypatch, tmp_path):
    """After a fault under MPS no new process can use the GPU for a while."""
    monkeypatch.setattr(device, "GPU_RECOVERS", 0.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "GPU_FILES", str(tmp_path / "nvidia*"))
    assert claim({"cpu": 1, "gpu": 0.5}) == torch.device("cpu"), "a GPU that Ray was only told of"
    (tmp_path / "nvidia0").touch()
    assert claim({"cpu": 1, "gpu": 0.0}) == torch.device("cpu")
    with pytest.raises(RuntimeError, match="can't use it") as raised:
        claim({"cpu": 1, "gpu": 0.5})
    assert machine_failed(raised.value)


def test_a_spoilt_gpu_hides_no_error(monkeypatch):
    """Giving memory back fails there too: what a task has to say is why its work failed."""

    def spoilt():
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", spoilt)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # of all tests after it
    with pytest.raises(ValueError, match="its own"), claimed({"cpu": 1, "gpu": 0.0}):
        raise ValueError("its own")
