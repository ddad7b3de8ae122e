"""What the GPU's tests share: without a GPU they skip, or with CPU=1 rehearse what can be rehearsed."""

import numpy as np
import pytest
import torch
from planted import REHEARSAL, StandIn

from duel.faces import draw_faces
from duel.train import loop
from duel.train.graphs import Graphs


@pytest.fixture(autouse=True)
def gpu(request, monkeypatch) -> torch.device:
    """The device, empty; skips where there is none."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        return torch.device("cuda")
    if not REHEARSAL:
        pytest.skip("no GPU here; bash tests/gpu/check.sh OUT runs this where there is one")
    if request.node.get_closest_marker("cuda"):
        pytest.skip("CPU=1: this asks CUDA itself")
    monkeypatch.setattr(loop, "graphs_for", lambda device, parts: Graphs(StandIn(), parts))
    return torch.device("cpu")


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    return draw_faces(640, 16 if REHEARSAL else 64, seed=0)
