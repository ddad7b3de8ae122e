"""A trained network on disk: model.safetensors beside the config.json that rebuilds it, and metrics.json."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from duel.device import place
from duel.errors import DuelError
from duel.families import FAMILIES, Settings, family_settings
from duel.models import build
from duel.models.layers import settle
from duel.store import sync

WEIGHTS, CONFIG, METRICS = "model.safetensors", "config.json", "metrics.json"


def save_model(
    folder: str | Path,
    side: str,
    family: str,
    image_size: int,
    settings: Settings,
    weights: dict[str, torch.Tensor],
    metrics: dict[str, Any],
) -> None:
    """Writes three files into `folder`, all or none: they are made beside it, synced, and moved there in one step.

    weights: the network's state dict. An older `folder` of the same name is replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = {"side": side, "family": family, "image_size": image_size, "settings": settings.model_dump()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp's folders are for their owner alone
        save_file(weights, draft / WEIGHTS)
        (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (draft / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        for path in (*draft.iterdir(), draft):
            sync(path)
        if folder.exists():
            shutil.rmtree(folder)  # a folder with files cannot be replaced in one step
        draft.replace(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The network saved in `folder`, on `device`, in eval mode and settled (see duel.models.layers), and its config.

    Raises DuelError, naming the file, when one is missing, unreadable or does not fit the other.
    """
    folder = Path(folder)
    config, settings = _read_config(folder / CONFIG)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, then replaced
        model = build(config["side"], config["family"], config["image_size"], settings)
    _load_weights(model, folder / WEIGHTS)
    return place(settle(model), torch.device(device)), config


def _read_config(path: Path) -> tuple[dict[str, Any], Settings]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        side, family, settings = config["side"], config["family"], config["settings"]
        if family not in FAMILIES[side]:
            raise DuelError(f"{path}: family {family!r} is unknown; allowed: {', '.join(FAMILIES[side])}")
        return {**config, "image_size": int(config["image_size"])}, family_settings(side, family, settings)
    except OSError as error:
        raise DuelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise DuelError(f"{path}: settings.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DuelError(f"{path}: is no configuration of a duel model ({error!r})") from error


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path))
    except OSError as error:
        raise DuelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise DuelError(f"{path}: is no complete safetensors file ({error})") from error
    except RuntimeError as error:
        raise DuelError(f"{path}: the weights do not fit the network that {CONFIG} describes") from error
