"""What only a GPU can show. `python -m pytest -m gpu`; under 90 seconds on an H100."""

import io
import os
import subprocess
import time

import numpy as np
import pytest
import ray
import torch
from planted import REHEARSAL, settings_of

from duel.cluster.connection import connect, disconnect
from duel.device import fold_batch_norm, place, release, to_network
from duel.families import FAMILIES
from duel.models import build
from duel.models.inference import predict, predict_logits
from duel.tasks import LINGER, sized
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer

pytestmark = pytest.mark.gpu

BATCH = 16 if REHEARSAL else 64
EVERY = pytest.mark.parametrize(
    ("side", "family"), [(side, family) for side, families in FAMILIES.items() for family in families]
)
CHANGES = {"dcgan": {"r1": 1.0, "penalty_every": 4, "augment": True}, "cnn": {"blur": 0.5, "jpeg": 0.5, "noise": 0.5}}


def training(side, family, faces, gpu, kind=GeneratorTrainer):
    settings, size = settings_of(side, family, batch_size=BATCH, **CHANGES.get(family, {})), faces.shape[-1]
    if side == "generator":
        return kind(family, settings, faces, lambda fakes: 0.0, image_size=size, device=gpu, seed=0)
    worse = np.clip(faces + np.random.default_rng(1).normal(0, 12, faces.shape), 0, 255).astype(np.uint8)
    return DetectorTrainer(
        family, settings, faces[:512], worse[:512], faces[512:], worse[512:], image_size=size, device=gpu, seed=0
    )


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True, map_location="cpu")


def weights(trainer):
    network = trainer.parts["generator" if "generator" in trainer.parts else "detector"]
    return torch.cat([p.detach().double().flatten() for p in network.parameters()]).cpu()


def apart(one, other, start):
    """How far two trainings have come apart, over the way that they have gone."""
    return ((one - other).norm() / (one - start).norm()).item()


@EVERY
def test_a_family_trains_by_graphs_repeats_itself_and_resumes_exactly(side, family, faces, gpu):
    graph, plain, first, second = (training(side, family, faces, gpu) for _ in range(4))
    plain.graphs, start = None, weights(plain)
    for trainer, steps in ((graph, 30), (plain, 30), (first, 17)):
        trainer.train_to(BATCH * steps)
    second.load_state_dict(through_a_file(first.state_dict()))
    second.train_to(BATCH * 30)
    assert graph.graphs.note == second.graphs.note == ""
    assert graph.graphs.recorded == (2 if family == "dcgan" else 1)
    assert second.graphs.recorded
    found = {name: apart(weights(t), weights(graph), start) for name, t in (("plain", plain), ("resumed", second))}
    print(f"{side} {family}: a graph's step was {graph.graphs.apart:.2g} off; after 30 steps apart: {found}")
    assert found == {"plain": 0.0, "resumed": 0.0}


@pytest.mark.parametrize("family", FAMILIES["detector"])
def test_bf16_here_and_float32_on_the_cpu_decide_alike(family, faces, gpu):
    trainer = training("detector", family, faces, gpu)
    trainer.train_to(BATCH * 60)
    detector = trainer.detector
    fast = predict_logits(detector, faces, gpu)
    with torch.inference_mode():
        plain = fold_batch_norm(detector.cpu())
        exact = torch.cat([plain(to_network(torch.from_numpy(part))) for part in np.array_split(faces, 10)]).numpy()
    rounding = np.sqrt(np.mean((fast - exact) ** 2))
    print(f"{family}: logits differ by {rounding:.3g} (root mean square), their spread is {exact.std():.3g}")
    assert (((fast >= 0) == (exact >= 0)) | (np.abs(exact) < 5 * rounding)).all()
    assert rounding < 0.15 * exact.std()


def test_reading_twice_gives_the_same_bits(faces, gpu):
    for family in FAMILIES["detector"]:
        detector = place(build("detector", family, faces.shape[-1], settings_of("detector", family)), gpu).eval()
        assert np.array_equal(predict(detector, faces, gpu), predict(detector, faces, gpu)), family


@pytest.mark.cuda
def test_a_training_that_has_ended_gives_its_memory_back(faces, gpu):
    training("generator", "dcgan", faces, gpu).train_to(BATCH * 12)  # libraries keep some for good
    release()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for side, family in (("generator", "sagan"), ("generator", "r3gan"), ("detector", "resnet18")):
        trainer = training(side, family, faces, gpu)
        trainer.train_to(BATCH * 12)
        held = torch.cuda.memory_reserved()
        del trainer
        release()
        after = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        print(f"{family}: {held / 2**20:.0f} MiB while training, {after[1] / 2**20:.0f} MiB after")
        assert after[0] - before[0] < 2 << 20
        assert after[1] - before[1] < 64 << 20


class Waits(GeneratorTrainer):
    """Asks for a number amid a step, which no graph can hold."""

    def _step(self, kind, inputs):
        losses = super()._step(kind, inputs)
        self.seen = losses["loss_generator"].item()
        return losses


@pytest.mark.cuda
def test_where_a_step_can_not_be_recorded_training_goes_on(faces, gpu):
    trainers = [training("generator", "dcgan", faces, gpu, kind) for kind in (Waits, GeneratorTrainer)]
    start = weights(trainers[0])
    for trainer in trainers:
        trainer.train_to(BATCH * 20)
    assert "no CUDA graph can be made" in trainers[0].graphs.note
    assert trainers[1].graphs.recorded == 2
    assert apart(weights(trainers[0]), weights(trainers[1]), start) == 0.0


@pytest.mark.cuda
def test_no_step_waits_for_the_device(faces, gpu):
    for side, family in (("generator", "dcgan"), ("detector", "cnn"), ("detector", "spectrum")):
        for plain in (True, False):
            trainer = training(side, family, faces, gpu)
            if plain:
                trainer.graphs = None
            trainer.train_to(BATCH * 20)
            torch.cuda.set_sync_debug_mode("error")
            try:
                trainer._take()
                trainer._after_step()
            finally:
                torch.cuda.set_sync_debug_mode("default")


def _on_the_gpu():
    return torch.ones(1 << 20, device="cuda").sum().item(), torch.cuda.device_count(), os.getpid()


def _without():
    return torch.cuda.device_count()


def _holders() -> int:
    """Processes that hold a context on the GPU, as the driver knows them."""
    shown = subprocess.run(
        ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], capture_output=True, text=True, check=True
    )
    return len(shown.stdout.split())


@pytest.mark.cuda
def test_a_fraction_of_a_gpu_works_and_its_process_lets_go(gpu, monkeypatch):
    monkeypatch.setenv("DUEL_MPS", "0")  # its server would be one more
    torch.ones(1, device=gpu)  # this process holds one
    connect(None)
    try:
        before, room = _holders(), {"cpu": 1, "gpu": 0.5}
        found = ray.get([sized(_on_the_gpu, room).remote() for _ in range(6)])
        assert {(total, count) for total, count, _ in found} == {(float(1 << 20), 1)}
        assert ray.get(sized(_without, {"cpu": 1, "gpu": 0.0}).remote()) == 0
        held = _holders()
        if held == before:
            pytest.skip("nvidia-smi lists no processes here")
        deadline = time.monotonic() + LINGER + 10
        while (left := _holders()) > before and time.monotonic() < deadline:
            time.sleep(1)
        print(f"contexts: {before} before the tasks, {held} right after them, {left} once they had no work")
        assert left <= before
    finally:
        disconnect()
