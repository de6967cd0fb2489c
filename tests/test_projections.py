"""What every projection promises: it learns from its training set, and that alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from learned_maps import (
    CHAIN,
    EVERY,
    MAPS,
    N_DIMS,
    images_of,
    kept,
    learn,
    learned,
    pixels,
    with_option,
)
from makers import Planted, plant
from safetensors.numpy import load as load_tensors
from sklearn.base import clone

from tllboost.errors import DataError, UnknownNameError, UsageError
from tllboost.merges import PairFeatures, pair_cosine, unit_rows
from tllboost.projections import is_built_in, make_projection
from tllboost.projections.base import Projection
from tllboost.projections.losses import InfoNCEProjection
from tllboost.splits import PairSet


def top2(projection: Any, planted: Planted, side: str = "test") -> float:
    """Return how often a match is among the first two of its list, by the cosine."""
    pairs: PairSet = getattr(planted.split, side)
    vectors = planted.vectors
    if projection is not None:
        vectors = projection.transform(vectors)
    score = pair_cosine(vectors, pairs.left, pairs.right)
    lists = [score[pairs.query == query] for query in np.unique(pairs.query)]
    return float(np.mean([(one[1:] >= one[0]).sum() < 2 for one in lists]))


# What is learned


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kind", MAPS)
def test_a_planted_signal_is_learned(kind: str, depth: int) -> None:
    # At depth 0 the components are the axes, and what matters lies on the last ones.
    options = "rate=0.03" if depth == 0 else "components=24&rate=0.006"
    steps = "batch=64&" if kind == "infonce" else "batch=128&epochs=16&"
    spec = f"{kind}?depth={depth}&{steps}{options}"
    found = []
    for seed in range(2):
        planted = plant(300, n_dims=60, n_signal=10, noise=0.5, seed=seed)
        planted.vectors[:, :10] *= 0.7  # what matters has the smallest spread
        projection = learn(spec, planted, seed=seed)
        found.append((top2(None, planted), top2(projection, planted)))
    frozen, projected = np.mean(found, axis=0)
    assert projected > frozen + 0.15


@pytest.mark.parametrize("spec", EVERY)
def test_a_projection_takes_every_seed_and_counts_threads_from_all_cores(
    spec: str,
) -> None:
    split = pixels().split
    for state in (2**64, None, np.random.RandomState(3), np.random.default_rng(3)):
        quick = spec.replace("epochs=3", "epochs=1")
        made = make_projection(quick, seed=state, device="cpu", n_threads=-1)
        assert made is not None
        clone(made).fit(pixels().vectors, split.train, split.validation)


@pytest.mark.parametrize("spec", EVERY)
def test_shuffled_pairs_give_chance(spec: str) -> None:
    found: dict[str, list[float]] = {"validation": [], "test": []}
    n_lists = dict.fromkeys(found, 0)
    for seed in range(4):
        planted = pixels(seed)
        half = len(planted.vectors) // 2
        order = half + np.random.default_rng(seed).permutation(half)
        vectors = np.concatenate([planted.vectors[:half], planted.vectors[order]])
        shuffled = Planted(vectors, planted.split)
        # Long enough to learn what there is: the network from scratch does in three.
        longer = spec if "cnn" in spec else spec.replace("epochs=3", "epochs=40")
        projection = learn(longer, shuffled, seed=seed)
        for side, values in found.items():
            values.append(top2(projection, shuffled, side))
            n_lists[side] += len(np.unique(getattr(planted.split, side).query))
    for side, values in found.items():
        chance = 2 / 10
        spread = np.sqrt(chance * (1 - chance) / n_lists[side])
        assert abs(np.mean(values) - chance) < 3 * spread


def test_a_map_that_learns_nothing_stays_at_its_start() -> None:
    projection = learn("infonce?rate=3&dropout=0", pixels())
    start = learn("infonce?epochs=1&rate=1e-12&dropout=0", pixels())
    assert np.argmin(projection.history_[0]) == 0
    assert len(projection.history_[0]) == 1 + projection.patience
    np.testing.assert_allclose(
        projection.transform(pixels().vectors),
        start.transform(pixels().vectors),
        atol=1e-5,
    )


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_one_layer_starts_at_the_cosine_of_centred_axes(depth: int) -> None:
    spec = f"infonce?depth={depth}&epochs=1&rate=1e-12&dropout=0&whiten=0"
    planted = plant(60, n_dims=12)
    projected = learn(spec + "&components=12", planted).transform(planted.vectors)
    images = images_of(planted.split.train)
    unit = unit_rows(planted.vectors)
    centred = unit_rows(unit - unit[images].mean(axis=0))
    same = np.allclose(projected @ projected.T, centred @ centred.T, atol=1e-4)
    assert same == (depth < 2)


# What is seen


@pytest.mark.parametrize("spec", EVERY)
def test_nothing_of_the_test_set_is_seen(spec: str) -> None:
    planted = pixels()
    expected = kept(learned(spec))
    marked = planted.vectors.copy()
    marked[images_of(planted.split.test)] = np.nan
    assert kept(learn(spec, Planted(marked, planted.split))) == expected


@pytest.mark.parametrize("spec", EVERY)
def test_validation_chooses_the_epoch_and_nothing_else(spec: str) -> None:
    spec = with_option(spec.replace("epochs=3", "epochs=2"), "patience=0")
    planted = pixels()
    expected = kept(learn(spec, planted))
    other = planted.vectors.copy()
    other[images_of(planted.split.validation)] = 7.0
    assert kept(learn(spec, Planted(other, planted.split))) == expected


@pytest.mark.parametrize("spec", EVERY)
def test_a_fitted_projection_maps_each_row_alone(spec: str) -> None:
    projection = learned(spec)
    vectors = pixels().vectors[:7]
    np.testing.assert_allclose(
        projection.transform(vectors)[3:4],
        projection.transform(vectors[3:4]),
        rtol=1e-4,
        atol=1e-5,
    )
    assert projection.transform(vectors[:0]).shape[0] == 0
    assert projection.transform(vectors).dtype == np.float32


# Seeds, and what is left as it was


@pytest.mark.parametrize("spec", EVERY)
def test_same_seed_same_weights(spec: str) -> None:
    first = kept(learned(spec))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert kept(learn(spec, pixels(), seed=0)) == first
    assert kept(learn(spec, pixels(), seed=4)) != first


@pytest.mark.parametrize("spec", EVERY)
def test_fitting_leaves_the_callers_torch_as_it_was(spec: str) -> None:
    before, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    projection = make_projection(spec, device="cpu", n_threads=n_threads + 1)
    assert projection is not None
    split = pixels().split
    projection.fit(pixels().vectors, split.train, split.validation)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == n_threads
    with pytest.raises((DataError, UsageError)):
        projection.fit(np.full((10, 2), np.nan), split.train.take([0]), split.train)
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize("spec", EVERY)
def test_arguments_and_vectors_are_not_changed(spec: str) -> None:
    made = make_projection(spec, device="cpu", n_threads=1)
    assert made is not None
    before, vectors = repr(made), pixels().vectors.copy()
    made.fit(vectors, pixels().split.train, pixels().split.validation)
    assert repr(made) == before
    np.testing.assert_array_equal(vectors, pixels().vectors)
    assert not [name for name in vars(clone(made)) if name.endswith("_")]


# What is kept


@pytest.mark.parametrize(
    "spec", [*EVERY, "triplet?distance=l2&epochs=3", "infonce?members=2&epochs=3"]
)
def test_what_was_learned_comes_back(spec: str) -> None:
    projection = learned(spec)
    file = kept(projection)
    again: Any = make_projection(projection.spec, device="cpu")
    again.from_tensors(load_tensors(file))
    np.testing.assert_array_equal(
        again.transform(pixels().vectors), projection.transform(pixels().vectors)
    )
    assert kept(again) == file
    assert again.n_dims_in_ == projection.n_dims_in_ == N_DIMS


@pytest.mark.parametrize("spec", ["contrastive?epochs=3", CHAIN])
def test_the_joined_network_comes_back(spec: str) -> None:
    projection = learned(spec)
    again: Any = make_projection(spec)
    again.from_tensors(projection.to_tensors())
    assert len(again.joined_) == len(projection.joined_) == 2
    for one, other in zip(again.joined_, projection.joined_, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_only_the_contrastive_projection_has_a_joined_network() -> None:
    for spec in ("infonce", "triplet", "contrastive?joined=false"):
        assert learn(with_option(spec, "epochs=1"), pixels()).joined_ == []


def _renamed(arrays: dict[str, np.ndarray]) -> None:
    arrays["other"] = arrays.pop(sorted(arrays)[0])


def _cut(arrays: dict[str, np.ndarray]) -> None:
    name = sorted(arrays)[0]
    arrays[name] = arrays[name][:-1].copy()


def _transposed(arrays: dict[str, np.ndarray]) -> None:
    name = next(name for name in sorted(arrays) if arrays[name].ndim > 1)
    arrays[name] = np.ascontiguousarray(arrays[name].T)


@pytest.mark.parametrize("edit", [_renamed, _cut, _transposed])
@pytest.mark.parametrize("spec", EVERY)
def test_tensors_of_something_else_are_refused(spec: str, edit: Any) -> None:
    arrays = learned(spec).to_tensors()
    edit(arrays)
    made: Any = make_projection(spec)
    with pytest.raises(ValueError, match=r"no place|shape|widths|layers|pairs of"):
        made.from_tensors(arrays)


# Widths and members


@pytest.mark.parametrize("kind", MAPS)
def test_components_say_how_wide_the_outputs_are(kind: str) -> None:
    def width(options: str, n_dims: int = 30) -> int:
        planted = plant(60, n_dims=n_dims)
        projection = learn(f"{kind}?epochs=1&{options}", planted)
        n_components: int = projection.transform(planted.vectors).shape[1]
        return n_components

    assert width("components=7") == 7
    assert width("components=7&members=3") == 21
    assert width("depth=2&components=40") == 40
    assert width("depth=1") == 15  # half the width
    assert width("depth=0&axes=9") == 9
    assert width("depth=0&components=4") == 4
    assert width("depth=1", n_dims=1200) == 512  # at most


def test_the_width_of_the_network_from_scratch_is_given() -> None:
    projection = learn("siamese-cnn?components=5&epochs=1", pixels())
    assert projection.transform(pixels().vectors).shape[1] == 5


def test_the_cosine_of_members_is_the_mean_of_their_cosines() -> None:
    projected = learn("infonce?members=3&components=8&epochs=3", pixels()).transform(
        pixels().vectors
    )
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, rtol=1e-5)
    blocks = [unit_rows(block) for block in np.split(projected, 3, axis=1)]
    mean = np.mean([block @ block.T for block in blocks], axis=0)
    np.testing.assert_allclose(projected @ projected.T, mean, atol=1e-5)
    alone = learn("infonce?components=8&epochs=3", pixels()).transform(pixels().vectors)
    np.testing.assert_allclose(blocks[0], alone, atol=1e-5)
    assert not np.allclose(blocks[1], alone, atol=0.1)


# Chains


def test_a_chain_fits_each_part_on_what_the_one_before_gives() -> None:
    planted = pixels()
    chain = learned(CHAIN)
    one, other = CHAIN.split("/")
    first = learn(one, planted)
    train, validation = planted.split.train, planted.split.validation
    seen = np.union1d(images_of(train), images_of(validation))
    between = np.zeros((len(planted.vectors), 16), dtype=np.float32)
    between[seen] = first.transform(planted.vectors[seen])
    second = learn(other, Planted(between, planted.split))
    np.testing.assert_array_equal(
        chain.transform(planted.vectors),
        second.transform(first.transform(planted.vectors)),
    )
    assert chain.transform(planted.vectors).shape[1] == 8


def test_a_chain_is_cloned_unfitted() -> None:
    copy: Any = clone(learned(CHAIN))
    assert copy.spec == CHAIN
    assert not hasattr(copy, "parts_")
    assert copy.parts[0].get_params()["components"] == 16


@pytest.mark.parametrize("spec", ["none/triplet", "triplet/", "/triplet", "triplet//x"])
def test_a_chain_has_learned_parts_only(spec: str) -> None:
    with pytest.raises(UsageError, match="can't be a part of a chain"):
        make_projection(spec)


# One's own


class Centred(Projection):
    """A projection that inherits the interface alone."""

    def fit(self, vectors: np.ndarray, train: PairSet, validation: PairSet) -> Centred:
        self.mean_ = vectors[images_of(train)].mean(axis=0)
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        return vectors - self.mean_

    def to_tensors(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean_}

    def from_tensors(self, tensors: Mapping[str, np.ndarray]) -> Centred:
        self.mean_ = tensors["mean"]
        return self


class Sharper(InfoNCEProjection):
    """A projection that inherits another."""

    name = f"{__name__}:Sharper"

    def __init__(self, *, temperature: float = 0.01, random_state: int = 0) -> None:
        super().__init__(temperature=temperature, random_state=random_state)


@pytest.mark.parametrize(
    "given", [f"{__name__}:Centred", Centred()], ids=["name", "it"]
)
def test_an_object_of_ones_own_is_a_projection(given: Any) -> None:
    planted = pixels()
    made = make_projection(given)
    assert isinstance(made, Projection)
    assert made.spec == f"{__name__}:Centred"
    made.fit(planted.vectors, planted.split.train, planted.split.validation)
    mean = planted.vectors[images_of(planted.split.train)].mean(axis=0)
    expected = planted.vectors - mean
    np.testing.assert_array_equal(made.transform(planted.vectors), expected)
    again = clone(made).from_tensors(made.to_tensors())
    np.testing.assert_array_equal(again.transform(planted.vectors), expected)
    assert not is_built_in(made)


def test_ones_own_stands_in_a_chain() -> None:
    chain = learn(f"{__name__}:Centred/infonce?components=5", pixels())
    assert chain.transform(pixels().vectors).shape[1] == 5
    assert chain.spec == f"{__name__}:Centred/infonce?components=5"
    again: Any = make_projection(chain.spec)
    again.from_tensors(chain.to_tensors())
    np.testing.assert_array_equal(
        again.transform(pixels().vectors), chain.transform(pixels().vectors)
    )
    assert not is_built_in(chain)
    assert is_built_in(learned(CHAIN))


def test_ones_own_may_inherit_and_have_options() -> None:
    made: Any = make_projection(f"{__name__}:Sharper?temperature=0.1", seed=5)
    assert isinstance(made, Sharper)
    assert (made.temperature, made.random_state) == (0.1, 5)
    assert made.spec == f"{__name__}:Sharper?temperature=0.1"
    assert not is_built_in(made)


def test_an_object_that_is_given_is_copied() -> None:
    given = InfoNCEProjection(components=5)
    made = make_projection(given, seed=7)
    assert made is not given
    assert made.get_params() == given.get_params()


def test_what_is_no_projection_is_refused() -> None:
    for other in (object(), "collections:Counter"):
        with pytest.raises(UsageError, match="is not a projection: inherit from"):
            make_projection(other)
    with pytest.raises(UsageError, match="can't be made without more arguments"):
        make_projection("tllboost.splits:PairSet")
    with pytest.raises(UnknownNameError, match=r"package\.module:Name"):
        make_projection("own")


class Flat(Centred):
    def transform(self, vectors: np.ndarray) -> np.ndarray:
        return vectors[:, 0]


def test_ones_own_must_give_a_row_an_image() -> None:
    flat = learn(f"{__name__}:Flat", pixels()).transform(pixels().vectors[:3])
    with pytest.raises(UsageError, match=r"vectors of shape \(3,\) must be"):
        PairFeatures(flat, [0], [1])
    own = pixels().vectors[:3]
    with pytest.raises(UsageError, match=r"\(n_images, n_dims\), of 3 images"):
        PairFeatures(own[:2], [0], [1], frozen=own)
