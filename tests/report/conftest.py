"""make_run: a believable run folder without a run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from duel.report.images import animation, sheet
from duel.rules.match import match_row
from duel.rules.standings import GUARDED, leaderboard, leave_one_out
from duel.rules.tables import MATCHES, SCOUTING

FAMILIES = {"generator": ["dcgan", "sagan"], "detector": ["cnn", "resnet18"]}
OBJECTIVE = {"generator": "kid", "detector": "auc"}


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """The function write_run, for tests that need a run folder."""
    return write_run


@pytest.fixture(scope="session")
def three_seasons(tmp_path_factory) -> Path:
    """A run of three seasons, for tests that change nothing in it."""
    return write_run(tmp_path_factory.mktemp("seasons") / "run", seasons=3)


def write_run(
    root: Path,
    entrants: int = 3,
    failed: int = 1,
    rename: dict[str, str] | None = None,
    reals: NDArray[np.uint8] | None = None,
    notes: list[str] | None = None,
    generators_win: bool = False,
    seasons: int = 1,
) -> Path:
    """Write a complete run with `entrants` a side and season into root; reals [N, 3, S, S] feed its pictures.

    A run of several seasons has controls, a guard and weather too.
    """
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    trials = pd.concat([_trials(rng, entrants, failed, rename or {}, s + 1) for s in range(seasons)], ignore_index=True)
    trials.to_csv(root / "trials.csv", index=False)
    chosen = trials[trials["entrant"]].rename(columns={"trial": "name"})
    matches = _matches(rng, chosen, chosen, generators_win, weather=seasons > 1)
    matches.to_csv(root / "matches.csv", index=False)
    guard = _write_controls(rng, root, chosen) if seasons > 1 else None
    leaderboard(matches, chosen, guard).to_csv(root / "leaderboard.csv", index=False)
    for entrant in chosen.to_dict("records"):
        _metrics(rng, root, entrant)
    # One season's are enough to see: they are most of the time that a run takes here.
    _pictures(rng, root, chosen[chosen["season"] == 1], _reals(rng) if reals is None else reals)
    (root / "run.json").write_text(json.dumps(_info(trials, notes or ["No GPU was found: trained on the CPU."])))
    return root


def _trials(rng: np.random.Generator, entrants: int, failed: int, rename: dict[str, str], season: int) -> pd.DataFrame:
    rows = []
    for side in ("generator", "detector"):
        for i in range(entrants + failed + 1):
            family = FAMILIES[side][i % 2]
            name = f"{f's{season}' if season > 1 else ''}{side[0]}{i + 1:02}-{family}"
            status = "failed" if entrants <= i < entrants + failed else "stopped" if i >= entrants else "finished"
            score = rng.uniform(0.35, 1.1) if side == "generator" else 1 - rng.exponential(0.04)
            worst = 1e3 if side == "generator" else 0.0
            rows.append(
                {
                    "trial": rename.get(name, name), "side": side, "season": season, "family": family, "status": status,
                    "reason": "the loss was not finite after 12,800 images" if status == "failed" else "",
                    "objective_name": OBJECTIVE[side], "objective": worst if status == "failed" else score,
                    "images": 200_000 if status == "finished" else 25_600, "seconds": rng.uniform(60, 240),
                    "entrant": status == "finished", "parent": "", "settings": json.dumps({"lr": 2e-4, "width": 64}),
                    "feature_network": "efficientnet-lite0" if side == "generator" else "",
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _matches(
    rng: np.random.Generator, generators: pd.DataFrame, detectors: pd.DataFrame, generators_win: bool, weather: bool
) -> pd.DataFrame:
    """Detectors know the fakes of their own season and of earlier ones better."""
    rows = []
    for g in generators.query("side == 'generator'").to_dict("records"):
        for j, d in enumerate(detectors.query("side == 'detector'").to_dict("records")):
            seen = bool(g["season"] <= d["season"] and rng.random() < 0.4)
            behind = max(0, g["season"] - d["season"]) * (0.2 if ".no-evasion" in g["name"] else 0.6)
            gap = (2.2 if seen else 1.3) * (g["objective"] + 0.25) - 0.1 * j - behind - (3 if generators_win else 0)
            row = match_row(*(1 / (1 + np.exp(-rng.normal(side * gap, 1, 3000))) for side in (-1, 1)))
            row |= {"seen": seen, "family_seen": seen or bool(rng.random() < 0.5)}
            changed = {f"accuracy_{w}": 0.5 + f * (row["accuracy"] - 0.5) for w, f in (("jpeg50", 0.8), ("blur1", 0.5))}
            rows.append({"generator": g["name"], "detector": d["name"], **row, **(changed if weather else {})})
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*MATCHES.names, *MATCHES.others(table)])


def _write_controls(rng: np.random.Generator, root: Path, chosen: pd.DataFrame) -> pd.DataFrame:
    """The controls' files, guard.csv and an empty scouting.csv; returns the guard's table."""
    later, detectors = chosen[chosen["season"] > 1], chosen["side"] == "detector"
    kinds = [
        (later[later["side"] == "generator"], "no-evasion"),
        (later[later["side"] == "detector"], "no-replay"),
        (later[later["side"] == "detector"], "no-rivals"),
        *((chosen[detectors].head(1), f"without-{family}") for family in FAMILIES["generator"]),
    ]
    twins = pd.concat([t.groupby("season").head(2).assign(twin_of=t["name"], kind=kind) for t, kind in kinds])
    twins = twins.assign(name=twins["twin_of"] + "." + twins["kind"], entrant=False)
    played = pd.concat([_matches(rng, twins, chosen, False, False), _matches(rng, chosen, twins, False, False)])
    twins = twins.rename(columns={"name": "trial"})
    generators = chosen[~detectors]
    families = dict(zip(generators["name"], generators["family"], strict=True))
    guard = pd.DataFrame({"name": generators["name"], **{c: rng.random(len(generators)) for c in GUARDED[:-1]}})
    guard["mark"] = (["", "not faces", "", "copies", "not faces, copies"] * len(guard))[: len(guard)]
    for name, table in (
        ("twins", twins),
        ("twin_matches", played),
        ("guard", guard),
        ("leave_one_out", leave_one_out(played, twins, families)),
        ("scouting", pd.DataFrame(columns=SCOUTING.names)),
    ):
        table.to_csv(root / f"{name}.csv", index=False)
    return guard


def _metrics(rng: np.random.Generator, root: Path, entrant: dict) -> None:
    images = np.linspace(10_000, entrant["images"], 12)
    start = 1.9 if entrant["side"] == "generator" else 0.55
    decay = np.exp(-np.linspace(0, 4, 12)) + rng.normal(0, 0.02, 12)
    scores = entrant["objective"] + (start - entrant["objective"]) * decay
    name = entrant["objective_name"]
    points = [
        {"images": int(i), name: float(s), "seconds": float(i) / 900} for i, s in zip(images, scores, strict=True)
    ]
    content = {"objective_name": name, "objective": entrant["objective"], "history": points}
    folder = root / "models" / entrant["name"].replace("/", "_")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(content))


def _reals(rng: np.random.Generator, n: int = 24, size: int = 32) -> NDArray[np.uint8]:
    """Smooth coloured blobs, light above and dark below."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = rng.uniform(0.5, 0.8, (n, 1, 1, 1))
    blob = np.clip((radius - np.hypot(x, 1.2 * y)) * 6, 0, 1)
    skin, back = rng.uniform(70, 230, (2, n, 3, 1, 1))
    return np.clip(back + (skin - back) * blob + 20 * y, 0, 255).astype(np.uint8)


def _pictures(rng: np.random.Generator, root: Path, chosen: pd.DataFrame, reals: NDArray[np.uint8]) -> None:
    def spoilt(images: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
        noise = rng.normal(0, 90, images.shape)
        return np.clip(images * (1 - strength) + strength * (127 + noise), 0, 255).astype(np.uint8)

    sheet(reals[:64], 8, root / "fakes" / "reals.png")
    for name, score in chosen.loc[chosen["side"] == "generator", ["name", "objective"]].itertuples(index=False):
        picks = reals[rng.permutation(len(reals))[:64]]
        sheet(spoilt(picks, 0.4 * score), 8, root / "fakes" / f"{name.replace('/', '_')}.png")
        frames = [spoilt(picks[:16], s) for s in np.linspace(1, 0.4 * score, 4)]
        animation(frames, 4, root / "fakes" / f"{name.replace('/', '_')}.gif")


def _info(trials: pd.DataFrame, notes: list[str]) -> dict:
    partitions = {"generator_train": 12_000, "detector_train": 4_000, "validation": 2_000, "league": 3_000}
    faces = {
        "source": "../faces/utkface", "kind": "folder", "found": 21_480, "used": 21_000, "skipped": 3,
        "duplicates": 272, "fingerprint": "9c1f0a7be2d34410", "image_size": 32, "partitions": partitions,
        "shrunk": 0.4,
    }  # fmt: skip
    stages = [
        {"name": name, "seconds": seconds, "started": "2026-05-04T10:00:00", **split}
        for name, seconds, split in (
            ("start", 4.1, {}),
            ("faces", 12.5, {}),
            ("generators", 412.0, {"training": 371.2, "scoring": 30.5}),
            ("detectors", 205.3, {"training": 190.0, "scoring": 11.0}),
            ("matches", 48.1, {}),
        )
    ]
    command = ["python", "-m", "duel.league", "--trials", str(len(trials)), "--faces", "../my faces"]
    return {
        "name": "faces",
        "status": "complete",
        "created": "2026-05-04T10:00:00+00:00",
        "duel_version": "0.1.0",
        "command": command,
        "seed": 0,
        "settings": {
            "image_size": 32,
            "guard": {"kid_share": 0.5, "copies": 0.05},
            "generators": {"families": ["dcgan"], "max_images": 200_000},
        },
        "trials_requested": len(trials),
        "faces": faces,
        "hardware": {
            "nodes": 1,
            "cpus": 2,
            "gpus": 0,
            "gpu_names": [],
            "cpu_model": "Xeon",
            "memory_gib": 15.6,
        },
        "versions": {"python": "3.11.9", "torch": "2.15.0", "ray": "2.60.0", "optuna": "5.0.0"},
        "feature_network": "efficientnet-lite0",
        "yardsticks": {"kid_noise": 1.58, "kid_untrained": 2.11, "kid_reals": 0.003},
        "stages": stages,
        "notes": notes,
    }
