import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from duel.checkpoint import load_model, save_model
from duel.errors import DuelError
from duel.families import CnnSettings
from duel.models import build

SETTINGS = CnnSettings(width=4, depth=2)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "models" / "d01-cnn"
    save_model(
        folder, "detector", "cnn", 16, SETTINGS, build("detector", "cnn", 16, SETTINGS).state_dict(), {"objective": 0.9}
    )
    return folder


def test_files(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    assert json.loads((saved / "metrics.json").read_text()) == {"objective": 0.9}
    config = json.loads((saved / "config.json").read_text())
    assert config == {
        "side": "detector",
        "family": "cnn",
        "image_size": 16,
        "settings": SETTINGS.model_dump(),
    }
    assert [path.name for path in saved.parent.iterdir()] == ["d01-cnn"]  # no draft is left


def test_loading_leaves_the_random_state_alone(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    assert (torch.rand(3) == expected).all()


def test_saving_again_replaces(saved):
    other = build("detector", "cnn", 16, SETTINGS)
    save_model(saved, "detector", "cnn", 16, SETTINGS, other.state_dict(), {})
    for name, weights in load_model(saved)[0].state_dict().items():
        assert (weights == other.state_dict()[name]).all()


def test_a_failed_save_leaves_what_was_there(saved):
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(TypeError):
        save_model(
            saved, "detector", "cnn", 16, SETTINGS, build("detector", "cnn", 16, SETTINGS).state_dict(), {"x": object()}
        )
    assert (saved / "model.safetensors").read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["d01-cnn"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(DuelError, match=name):
        load_model(saved)


def test_cut_weights_are_named(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(DuelError, match=r"model\.safetensors: is no complete safetensors file"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "vit"}, "family 'vit' is unknown; allowed: cnn, resnet18"),
        ({"side": "judge"}, "no configuration of a duel model"),
        ({"settings": {"width": -1}}, "settings.width"),
        ({"settings": {"depht": 2}}, "settings.depht"),
        ({"image_size": "big"}, "no configuration of a duel model"),
        ({"image_size": 48}, "image_size"),
    ],
)
def test_bad_config_is_named(saved, change, message):
    path = saved / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DuelError, match=message):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "null"])
def test_config_that_is_none(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(DuelError, match=r"config\.json"):
        load_model(saved)


def test_weights_of_another_network_are_named(saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "settings": {**config["settings"], "width": 8}}))
    with pytest.raises(DuelError, match=r"model\.safetensors: the weights do not fit"):
        load_model(saved)


def test_channels_last_weights_are_saved(tmp_path):
    model = build("detector", "cnn", 16, SETTINGS).to(memory_format=torch.channels_last)
    save_model(tmp_path / "m", "detector", "cnn", 16, SETTINGS, model.state_dict(), {"list": [np.float64(1.5)]})
    assert (
        load_model(tmp_path / "m")[0].state_dict()["network.features.0.weight"] == model.network.features[0].weight
    ).all()


def test_all_is_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    """What a model was made from is deleted afterwards: a power cut must not take both."""
    done, fsync, replace = [], os.fsync, Path.replace

    def synced(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}").rsplit("/", 1)[-1])
        fsync(handle)

    def renamed(path, target):
        done.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    weights = build("detector", "cnn", 16, SETTINGS).state_dict()
    save_model(tmp_path / "models" / "d01-cnn", "detector", "cnn", 16, SETTINGS, weights, {})
    assert set(done[:3]) == {"config.json", "metrics.json", "model.safetensors"}
    assert done[3].startswith(".d01-cnn-")
    assert done[4:] == ["renamed", "models"]
