import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duel.faces import split_faces

SIZES = {"generator_train": 50, "detector_train": 30, "validation": 15, "league": 5}


@st.composite
def grouped(draw: st.DrawFn) -> np.ndarray:
    singles = draw(st.integers(0, 300))
    larger = draw(st.lists(st.integers(2, 12), max_size=40))
    groups = np.concatenate([np.arange(singles), np.repeat(singles + np.arange(len(larger)), larger)])
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(groups).astype(np.int64)


sizes = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 150), min_size=1)


@settings(max_examples=300, deadline=None)
@given(groups=grouped(), sizes=sizes, seed=st.integers(0, 2**32))
def test_parts_are_disjoint_and_groups_stay_whole(groups: np.ndarray, sizes: dict[str, int], seed: int) -> None:
    parts = split_faces(groups, sizes, seed)
    assert list(parts) == list(sizes)
    everything = np.concatenate(list(parts.values()))
    assert len(np.unique(everything)) == len(everything)
    homes: dict[int, str] = {}
    for name, part in parts.items():
        assert part.dtype == np.int64 and len(part) <= sizes[name] and (np.diff(part) > 0).all()
        for group in groups[part].tolist():
            assert homes.setdefault(group, name) == name
    again = split_faces(groups, sizes, seed)
    assert all((again[name] == parts[name]).all() for name in parts)


@settings(max_examples=300, deadline=None)
@given(groups=grouped(), sizes=sizes, seed=st.integers(0, 2**32))
def test_all_shrink_in_one_proportion(groups: np.ndarray, sizes: dict[str, int], seed: int) -> None:
    parts = split_faces(groups, sizes, seed)
    factors = [(len(parts[name]), asked) for name, asked in sizes.items() if asked]
    for got, asked in factors:  # a common factor f with got = floor(asked * f) for every part
        assert all(other * asked < (got + 1) * wanted for other, wanted in factors)


@pytest.mark.parametrize("spare", [0, 1, 900])
def test_exact_sizes_when_there_are_enough(spare: int) -> None:
    groups = np.concatenate([np.arange(60), np.repeat(np.arange(60, 80), 2)])
    groups = np.concatenate([groups, np.arange(1000, 1000 + spare)])
    assert {name: len(part) for name, part in split_faces(groups, SIZES, 1).items()} == SIZES


def test_half_the_faces_give_half_of_everything() -> None:
    asked = {name: 10 * size for name, size in SIZES.items()}
    got = {name: len(part) for name, part in split_faces(np.arange(500), asked, 1).items()}
    assert got == {"generator_train": 250, "detector_train": 150, "validation": 75, "league": 25}


def test_real_proportions_survive_real_duplicates() -> None:
    """18,500 single faces and 700 small groups: what the faces used in development look like."""
    groups = np.concatenate([np.arange(18_500), np.repeat(np.arange(20_000, 20_700), 2)])
    asked = {"generator_train": 52_600, "detector_train": 15_000, "validation": 5_000, "league": 15_000}
    got = split_faces(groups, asked, 0)
    factors = [len(got[name]) / asked[name] for name in asked]
    assert max(factors) - min(factors) < 1e-3 and min(factors) > 0.999 * len(groups) / sum(asked.values())


def test_another_seed_gives_another_split() -> None:
    one, other = (split_faces(np.arange(500), SIZES, seed) for seed in (1, 2))
    assert (one["generator_train"] != other["generator_train"]).any()


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="-3"):
        split_faces(np.arange(10), {"league": -3}, 0)
