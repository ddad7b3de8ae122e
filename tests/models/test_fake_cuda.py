"""What a GPU would meet, as far as a machine without one can tell.

Forward passes, losses and augmentations run on a simulated CUDA device under autocast: PyTorch computes shapes, types
and devices, but no numbers. Its autograd asks CUDA's driver where gradients on CUDA tensors are taken, simulated or
not; so gradients, penalties' too, are taken on the meta device instead, in float32. Those in bfloat16 are tested on
the CPU (test_contract).

No step may copy from the CPU or wait for the device: either stalls a GPU, and a CUDA graph can't record it.
"""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from duel.device import autocast, fold_batch_norm, place, to_bytes, to_network
from duel.families import FAMILIES
from duel.losses import (
    OBJECTIVES,
    detector_loss,
    discriminator_loss,
    evasion_loss,
    generator_loss,
    gradient_penalty,
)
from duel.metrics import feature_network
from duel.models import build, build_discriminator
from duel.train import augment
from duel.train.augment import blur, diff_augment, flip, jpeg, noise

CUDA, META = torch.device("cuda"), torch.device("meta")
SIZE, BATCH = 32, 8
SMALL = {"width": 16, "width_discriminator": 16, "latent": 10, "input_size": 64}  # whatever of it a family has
GENERATORS = [
    ("dcgan", {}),
    ("dcgan", {"upsample": "nearest", "norm_discriminator": "spectral"}),
    ("sngan", {}),
    ("sagan", {}),
    ("r3gan", {}),
]
DETECTORS = [
    ("cnn", {}),
    ("resnet18", {}),
    ("residual", {"front": "srm"}),
    ("residual", {"front": "npr"}),
    ("spectrum", {"transform": "dct"}),
    ("spectrum", {"transform": "fft", "block": 16}),
    ("spectrum", {"classifier": "linear"}),
    ("patch", {}),
    ("probe", {}),
]
AUGMENTATIONS = {
    "diff_augment": diff_augment,
    "flip": lambda images: flip(images, 0.5),
    "blur": lambda images: blur(images, 0.5),
    "noise": lambda images: noise(images, 0.5, 10.0),
    "jpeg": lambda images: jpeg(images, 0.5),
}


class OnDevice(TorchDispatchMode):
    """Lets nothing touch the CPU: no tensor that lies there, and none made of Python's numbers to be copied.

    What reads a number back (item, a condition, a mask's places) the simulated device refuses by itself.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.namespace == "aten":
            assert func is not torch.ops.aten.lift_fresh.default, "a tensor is made of Python's numbers"
            for leaf in tree_leaves((args, kwargs, out)):
                assert not isinstance(leaf, torch.Tensor) or leaf.device.type != "cpu", (
                    f"{func} has a tensor on the CPU"
                )
        return out


@pytest.fixture
def cuda(monkeypatch):
    """A simulated CUDA device, autocast included, inside `with cuda`. Networks are built outside and moved there."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.fixture
def meta(monkeypatch):
    """Inside, the meta device can stand for a GPU: it knows no autocast, and is spared it."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)


def settings_of(side, family, changes):
    known = FAMILIES[side][family]
    return known(**{name: value for name, value in SMALL.items() if name in known.model_fields} | changes)


def images_on(device):
    return to_network(torch.zeros(BATCH, 3, SIZE, SIZE, dtype=torch.uint8, device=device))


def test_all_families_are_here():
    assert {family for family, _ in GENERATORS} == set(FAMILIES["generator"])
    assert {family for family, _ in DETECTORS} == set(FAMILIES["detector"])


STALLS = {
    "constant": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "list of places": lambda x: x[[0, 1]],
    "places on the CPU": lambda x: x[torch.arange(2)],
    "filled from the CPU": lambda x: x.copy_(torch.ones(4)),
    "moved from the CPU": lambda x: torch.ones(4).to(x.device),
    "mask": lambda x: x[x > 0],
    "item": lambda x: x.sum().item(),
    "condition": lambda x: 1 if x.sum() > 0 else 0,
}


@pytest.mark.parametrize("name", STALLS)
def test_what_stalls_a_gpu_is_seen(cuda, name):
    with cuda:
        x = torch.zeros(4, device=CUDA)
        with pytest.raises((AssertionError, RuntimeError)), OnDevice():
            STALLS[name](x)


@pytest.mark.parametrize(
    "name", sorted(STALLS.keys() - {"constant", "list of places"})
)  # PyTorch 2.11 hides these there
def test_what_stalls_a_gpu_is_seen_on_the_meta_device(name):
    x = torch.zeros(4, device=META)
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), OnDevice():
        STALLS[name](x)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_stay_on_the_device(name):
    images = images_on(META).requires_grad_()
    AUGMENTATIONS[name](images)  # the first call puts tables there
    with OnDevice():
        changed = AUGMENTATIONS[name](images)
        changed.sum().backward()
    assert (changed.shape, changed.dtype) == (images.shape, torch.float32)
    assert images.grad.shape == images.shape


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_pass_on_cuda(cuda, name, monkeypatch):
    with cuda:
        images = images_on(CUDA)
        monkeypatch.setitem(augment._placed, images.device, augment._tables(images.device))  # as a first step does
        with OnDevice():
            changed = AUGMENTATIONS[name](images)
    assert (changed.device.type, changed.dtype, changed.shape) == ("cuda", torch.float32, (BATCH, 3, SIZE, SIZE))


@pytest.mark.parametrize("variant", GENERATORS, ids=str)
def test_generators_pass_on_cuda_in_bfloat16(cuda, variant):
    family, changes = variant
    settings = settings_of("generator", family, changes)
    generator = build("generator", family, SIZE, settings)
    discriminator = build_discriminator(family, SIZE, settings)
    with cuda:
        generator.to(CUDA), discriminator.to(CUDA)
        with OnDevice():
            with autocast(CUDA):
                fakes = generator(torch.randn(BATCH, settings.latent, device=CUDA))
            shown = [diff_augment(x.float()) for x in (images_on(CUDA), fakes)]
            with autocast(CUDA):
                logits = [discriminator(x) for x in shown]
            losses = [loss for name in OBJECTIVES for loss in adversarial(name, *logits)]
            seen = to_network(to_bytes(fakes.detach()))
    assert (fakes.shape, fakes.dtype, fakes.device.type) == ((BATCH, 3, SIZE, SIZE), torch.bfloat16, "cuda")
    for of in logits:
        assert (of.shape, of.device.type) == ((BATCH,), "cuda")
    for loss in losses:
        assert (loss.shape, loss.dtype, loss.device.type) == ((), torch.float32, "cuda")
    assert (seen.shape, seen.dtype, seen.device.type) == (fakes.shape, torch.float32, "cuda")


def adversarial(objective, real_logits, fake_logits):
    return (
        discriminator_loss(objective, real_logits, fake_logits),
        generator_loss(objective, fake_logits, real_logits),
    )


@pytest.mark.parametrize("variant", DETECTORS, ids=str)
def test_detectors_pass_on_cuda_in_bfloat16(cuda, variant):
    family, changes = variant
    detector = build("detector", family, SIZE, settings_of("detector", family, changes))
    folded = fold_batch_norm(detector)
    with cuda:
        detector.to(CUDA), folded.to(CUDA)
        with OnDevice():
            with autocast(CUDA):
                answers = [network(images_on(CUDA)) for network in (detector, folded)]
            is_fake = torch.arange(BATCH, device=CUDA) >= BATCH // 2
            losses = [detector_loss(answers[0], is_fake), evasion_loss(answers[1])]
    for logits in answers:
        assert (logits.shape, logits.dtype, logits.device.type) == ((BATCH,), torch.float32, "cuda")
    for loss in losses:
        assert (loss.shape, loss.dtype, loss.device.type) == ((), torch.float32, "cuda")


@pytest.mark.parametrize("family", ["cnn", "residual", "spectrum", "patch"])
def test_convolutions_run_in_bfloat16_but_for_those_that_need_float32(cuda, family):
    """A network that quietly ran in float32 would be right and slow."""
    detector = build("detector", family, SIZE, settings_of("detector", family, {}))
    found = []
    for module in detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: found.append(out.dtype))
    with cuda:
        detector.to(CUDA)
        with autocast(CUDA):
            detector(images_on(CUDA))
    first = torch.float32 if family == "patch" else torch.bfloat16  # its Contrast, of traces smaller than bfloat16's
    assert found == [first] + [torch.bfloat16] * (len(found) - 1)


def test_the_feature_network_passes_on_cuda(cuda):
    network = feature_network()
    with cuda:
        network.to(CUDA)
        with OnDevice(), autocast(CUDA):
            found = network(torch.zeros(BATCH, 3, SIZE, SIZE, dtype=torch.uint8, device=CUDA))
    assert (found.shape, found.dtype, found.device.type) == ((BATCH, 1280), torch.float32, "cuda")


@pytest.mark.parametrize("adam", [torch.optim.Adam, torch.optim.AdamW])
def test_optimisers_pass_on_cuda(cuda, adam):
    network = torch.nn.Linear(4, 4)
    with cuda:
        network.to(CUDA)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with OnDevice():
            adam(network.parameters(), 1e-3, fused=True).step()


@pytest.mark.parametrize("variant", GENERATORS, ids=str)
def test_a_whole_step_of_a_generator_stays_on_the_device(meta, variant):
    """As GeneratorTrainer takes it, with both penalties and every objective."""
    family, changes = variant
    settings = settings_of("generator", family, changes)
    generator = place(build("generator", family, SIZE, settings), META)
    discriminator = place(build_discriminator(family, SIZE, settings), META)
    with OnDevice():
        fakes = generator(torch.randn(BATCH, settings.latent, device=META))
        shown = [diff_augment(x).detach().requires_grad_() for x in (images_on(META), fakes)]
        logits = [discriminator(x) for x in shown]
        losses = [adversarial(name, *logits)[0] for name in OBJECTIVES]
        losses += [gradient_penalty(*pair) for pair in zip(shown, logits, strict=True)]
        torch.stack(losses).sum().backward()
    check_gradients(discriminator)
    discriminator.requires_grad_(False)
    with OnDevice():
        logits = discriminator(diff_augment(fakes))
        torch.stack([generator_loss(name, logits, logits.detach()) for name in OBJECTIVES]).sum().backward()
    check_gradients(generator)


@pytest.mark.parametrize("variant", DETECTORS, ids=str)
def test_a_whole_step_of_a_detector_stays_on_the_device(meta, variant):
    family, changes = variant
    detector = place(build("detector", family, SIZE, settings_of("detector", family, changes)), META)
    jpeg(images_on(META), 0.5)  # the first call puts tables there
    with OnDevice():
        images = images_on(META)
        for name in ("flip", "blur", "noise", "jpeg"):
            images = AUGMENTATIONS[name](images)
        detector_loss(detector(images), torch.arange(BATCH, device=META) >= BATCH // 2).backward()
    check_gradients(detector)


@pytest.mark.parametrize("variant", DETECTORS, ids=str)
def test_a_detector_as_a_rival_stays_on_the_device(meta, variant):
    family, changes = variant
    detector = build("detector", family, SIZE, settings_of("detector", family, changes))
    rival = place(fold_batch_norm(detector), META).requires_grad_(False)
    fakes = images_on(META).requires_grad_()
    with OnDevice():
        evasion_loss(rival(fakes + (to_network(to_bytes(fakes.detach())) - fakes.detach()))).backward()
    assert (fakes.grad.shape, fakes.grad.device.type) == (fakes.shape, "meta")


def check_gradients(*networks):
    for network in networks:
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad.shape, parameter.grad.dtype) == (parameter.shape, torch.float32), name
            assert parameter.grad.device.type == "meta", name
