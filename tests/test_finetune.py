"""Fine-tuning learns from the training set alone, can be stopped, and never harms."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tuning import ARCH, SIZE, Tuning, random_network, tuning

from tllboost.dense import Adam
from tllboost.errors import DataError, ImageError, UsageError, WeightsError
from tllboost.finetune import Augmentation, FineTuneSettings, finetune, trained_on
from tllboost.finetune import images as finetune_images
from tllboost.finetune.settings import read_record
from tllboost.finetune.train import ranking_loss
from tllboost.images import content_hash
from tllboost.splits import PairSet, Protocol, SplitTable, make_splits
from tllboost.vectorizers import make_vectorizer

GENTLE = Augmentation(rotation=0, shift=0.05, zoom=0.05, flip=False, colour=0.1)
QUICK = FineTuneSettings(
    n_stages=4,
    n_epochs=3,
    n_views=2,
    batch_size=8,
    learning_rate=1e-3,
    augmentation=GENTLE,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return tuning(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_network(tmp_path_factory.mktemp("weights") / "net.safetensors")


def tuned(
    data: Tuning,
    network: Path,
    out: Path,
    *,
    options: str = "",
    settings: FineTuneSettings = QUICK,
    **given: Any,
) -> Any:
    base = make_vectorizer(f"timm:{ARCH}@{network}?size={SIZE}{options}", device="cpu")
    split = data.split
    return finetune(
        base,
        data.seen,
        split.train,
        split.validation,
        out,
        settings=settings,
        device="cpu",
        n_threads=1,
        **given,
    )


@pytest.fixture(scope="module")
def whole(data: Tuning, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One training that nothing interrupts, and the lines that it told."""
    lines: list[str] = []
    out = tmp_path_factory.mktemp("whole") / "out.safetensors"
    return tuned(data, network, out, message=lines.append), lines


def test_ranking_loss_is_smaller_for_vectors_that_rank_better(data: Tuning) -> None:
    n_pairs = len(data.paths) // 2
    rng = np.random.default_rng(0)
    one = rng.normal(size=(n_pairs, 16)).astype(np.float32)
    losses = [
        ranking_loss(
            np.concatenate([one, one + spread * rng.normal(size=one.shape)]).astype(
                np.float32
            ),
            data.split.validation,
        )
        for spread in (0.1, 1.0, 30.0)
    ]
    assert losses == sorted(losses)


# --- the whole


def test_the_new_file_is_weights_like_any_other(
    data: Tuning, network: Path, whole: Any
) -> None:
    vectorizer, _ = whole
    again = make_vectorizer(vectorizer.spec)
    old = make_vectorizer(f"timm:{ARCH}@{network}?size={SIZE}")
    assert again.fingerprint != old.fingerprint
    assert again.fingerprint.split("|")[3:] == old.fingerprint.split("|")[3:]
    vectors = again.transform(data.paths[:4])
    assert vectors.shape == (4, old.n_dims)
    assert np.abs(vectors - old.transform(data.paths[:4])).max() > 1e-3


def test_training_lowers_the_validation_loss(whole: Any) -> None:
    _, lines = whole
    assert len(lines) == 4
    assert lines[0].startswith("epoch 1 of 3: loss ")
    told = re.search(r"validation ([\d.]+) before, ([\d.]+) now", lines[-1])
    assert told
    first, last = map(float, told.groups())
    assert last < 0.95 * first


def test_only_the_last_stages_change(network: Path, whole: Any) -> None:
    old, new = load_file(network), load_file(whole[0].file)
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert set(old) == set(new)
    assert changed
    trained = tuple(f"blocks.{i}." for i in range(1, 5))
    assert all(name.startswith((*trained, "conv_head", "bn2")) for name in changed)
    assert not any("running" in name for name in changed)


def test_the_header_names_every_image_that_was_seen(
    data: Tuning, network: Path, whole: Any
) -> None:
    file = whole[0].file
    seen = {content_hash(path)[:16] for path in data.seen if path is not None}
    assert trained_on(file) == seen
    record = read_record(file)
    assert record is not None
    assert record["seed"] == "0"
    assert trained_on(network) == frozenset()
    with pytest.raises(WeightsError, match="no file"):
        trained_on(network.with_name("none"))


def test_same_seed_same_weights(
    data: Tuning, network: Path, whole: Any, tmp_path: Path
) -> None:
    again = tuned(data, network, tmp_path / "again.safetensors")
    other = tuned(data, network, tmp_path / "other.safetensors", seed=1)
    first, second, third = (load_file(one.file) for one in (whole[0], again, other))
    for name, one in first.items():
        np.testing.assert_array_equal(one, second[name])
    assert any((first[name] != third[name]).any() for name in first)


def test_onnx_runtime_changes_a_training_by_rounding_alone(
    data: Tuning,
    network: Path,
    whole: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finetune_images, "_FEW", 0)
    again = tuned(data, network, tmp_path / "again.safetensors")
    histories = [
        [one["validation"] for one in json.loads(read_record(each.file)["history"])]
        for each in (whole[0], again)
    ]
    np.testing.assert_allclose(*histories, rtol=1e-3)
    keys = {read_record(each.file)["key"] for each in (whole[0], again)}
    assert len(keys) == 1  # the same training: either goes on with the other's folder


@pytest.mark.parametrize("when", ["maps", "epoch"])
def test_a_stopped_training_goes_on_where_it_was(
    data: Tuning, network: Path, whole: Any, tmp_path: Path, when: str
) -> None:
    out = tmp_path / "out.safetensors"
    views: list[int] = []

    def watch(done: int, total: int, what: str) -> None:
        if what == "augmented views":
            views.append(done)
        if when == ("maps" if what == "augmented views" else what.split()[0]):
            raise KeyboardInterrupt

    def stop_after_one(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    told: dict[str, Any] = (
        {"progress": watch} if when == "maps" else {"message": stop_after_one}
    )
    with pytest.raises(KeyboardInterrupt):
        tuned(data, network, out, **told)
    assert not out.exists()
    made, lines = list(views), []
    when = ""
    views.clear()
    tuned(data, network, out, progress=watch, message=lines.append)
    if made:
        assert views[0] > made[0]
    else:
        assert not views
        assert lines[0] == "going on after epoch 1"
        assert lines[1].startswith("epoch 2")
    for name, one in load_file(whole[0].file).items():
        np.testing.assert_array_equal(one, load_file(out)[name])
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_damaged_of_a_stopped_training_is_done_again(
    data: Tuning, network: Path, whole: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(data, network, out, message=stop)
    (work,) = out.with_name(f"{out.name}.work").iterdir()
    names = {"checkpoint.pt", "maps.json", "maps.npy"}
    assert {file.name for file in work.iterdir()} == names
    for name in ("checkpoint.pt", "maps.npy"):
        (work / name).write_bytes((work / name).read_bytes()[:100])
    tuned(data, network, out)
    for name, one in load_file(whole[0].file).items():
        np.testing.assert_array_equal(one, load_file(out)[name])


def test_a_finished_file_is_used_again_and_never_replaced_unasked(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    out, lines = tmp_path / "out.safetensors", []
    one_epoch = replace(QUICK, n_epochs=1)
    tuned(data, network, out, settings=one_epoch)
    before = out.stat().st_mtime_ns
    tuned(data, network, out, settings=one_epoch, message=lines.append)
    assert lines == [f"{out} is the result of this very training: nothing to do"]
    with pytest.raises(UsageError, match="holds other weights"):
        tuned(data, network, out, settings=one_epoch, seed=1)
    assert out.stat().st_mtime_ns == before
    tuned(data, network, out, settings=one_epoch, seed=1, overwrite=True)
    assert out.stat().st_mtime_ns > before


def test_a_training_that_does_harm_leaves_the_network_as_it_was(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    wild = replace(QUICK, learning_rate=1e9)
    out = tmp_path / "out.safetensors"
    tuned(data, network, out, settings=wild, message=lines.append)
    assert any("collapsed" in line for line in lines)
    assert "the network is unchanged" in lines[-1]
    for name, one in load_file(network).items():
        np.testing.assert_array_equal(one, load_file(out)[name])


def test_new_views_can_be_made_at_every_pass(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    settings = replace(QUICK, n_views=0, n_epochs=1, n_components=0)
    what: list[str] = []
    vectorizer = tuned(
        data,
        network,
        tmp_path / "out.safetensors",
        settings=settings,
        progress=lambda done, total, one: what.append(one),
    )
    assert set(what) == {"epoch 1"}
    assert vectorizer.transform(data.paths[:1]).shape[0] == 1


def test_all_other_options_of_the_vectorizer_are_kept(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    vectorizer = tuned(
        data,
        network,
        out,
        options="&normalize=true&flip=true&trim=true",
        settings=replace(QUICK, n_epochs=1),
    )
    expected = f"timm:{ARCH}@{out}?size={SIZE}&normalize=true&trim=true&flip=true"
    assert set(vectorizer.spec.split("?")[1].split("&")) == set(
        expected.split("?")[1].split("&")
    )
    assert vectorizer.spec.split("?")[0] == expected.split("?")[0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("classic", "can't be fine-tuned"),
        ("classic+timm:{arch}@{net}", "can't be fine-tuned"),
    ],
)
def test_what_can_not_be_trained_is_refused(
    data: Tuning, network: Path, tmp_path: Path, spec: str, said: str
) -> None:
    vectorizer = make_vectorizer(spec.format(arch=ARCH, net=network))
    sides = data.split.train, data.split.validation
    with pytest.raises(UsageError, match=said):
        finetune(vectorizer, data.seen, *sides, tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())


def test_out_must_be_named_as_safetensors(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        tuned(data, network, tmp_path / "out.pt")


def test_an_image_that_can_not_be_read_is_named(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    paths = list(data.paths)
    paths[int(data.split.train.left[0])] = bad
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        tuned(Tuning(paths, data.split), network, tmp_path / "out.safetensors")


def test_matches_of_one_component_teach_nothing(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    train = data.split.train
    one = train.take(np.flatnonzero(train.component == train.component[0]))
    split = replace(data.split, train=one)
    with pytest.raises(DataError, match="of 1 component: at least two are needed"):
        tuned(Tuning(data.paths, split), network, tmp_path / "out.safetensors")


def test_the_validation_set_is_not_trained_on(
    data: Tuning, network: Path, tmp_path: Path
) -> None:
    """With labels of validation turned round, no weight of an epoch may change."""
    validation = data.split.validation
    order = np.random.default_rng(0).permutation(len(validation))
    shuffled: PairSet = replace(validation, label=validation.label[order])
    settings = replace(QUICK, n_epochs=1, patience=9)
    files = []
    for name, side in (("a", validation), ("b", shuffled)):
        given = Tuning(data.paths, replace(data.split, validation=side))
        out = tmp_path / f"{name}.safetensors"
        states: list[Any] = []

        def spy(line: str, states: list[Any] = states, out: Path = out) -> None:
            if line.startswith("epoch 1"):
                (file,) = out.with_name(f"{out.name}.work").glob("*/checkpoint.*")
                states.append(torch.load(file, weights_only=True)["now"])

        tuned(given, network, out, settings=settings, message=spy)
        files += states
    now = files
    for name, one in now[0].items():
        np.testing.assert_array_equal(one, now[1][name])


def test_clip_towers_are_tuned_and_the_rest_of_the_file_stays(
    data: Tuning, tmp_path: Path
) -> None:
    import json

    import open_clip

    arch = "tllboost-test-tuned"
    tiny = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 50,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    (tmp_path / f"{arch}.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / f"{arch}.json")
    torch.manual_seed(0)
    old = open_clip.create_model(arch, load_weights=False).state_dict()
    torch.save(old, tmp_path / "old.pt")
    base = make_vectorizer(f"clip:{arch}@{tmp_path / 'old.pt'}", device="cpu")
    sides = data.split.train, data.split.validation
    out = tmp_path / "new.safetensors"
    settings = replace(QUICK, n_stages=1, n_epochs=2)
    new = finetune(base, data.seen, *sides, out, settings=settings, n_threads=1)
    assert new.spec == f"clip:{arch}@{out}"
    assert make_vectorizer(new.spec).transform(data.paths[:2]).shape == (2, 24)
    tensors = load_file(out)
    assert set(tensors) == set(old)
    changed = {n for n in old if not np.array_equal(old[n].numpy(), tensors[n])}
    assert changed
    assert all(
        name.startswith(("visual.transformer.resblocks.2", "visual.ln_post"))
        for name in changed
    )


def test_a_set_without_lists_ranks_its_matches_among_each_other() -> None:
    left, right = np.arange(40), np.arange(40, 80)
    component, label = np.tile(np.arange(40), 2), np.ones(40, np.int8)
    (split,) = make_splits(
        SplitTable(left, right, label, component),
        protocol=Protocol("holidays2017"),
        seed=0,
    )
    good = np.eye(40, dtype=np.float32)[component]
    assert (split.validation.query < 0).all()
    assert ranking_loss(good, split.validation) < ranking_loss(
        np.random.default_rng(0).normal(size=good.shape).astype(np.float32),
        split.validation,
    )


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_other_training_takes_the_steps_of_torch_to_the_last_digit(
    decay: float,
) -> None:
    taken = []
    for is_own in (True, False):
        torch.manual_seed(0)
        # Of more numbers than go in one piece; one layer has no part in the loss.
        used, idle = torch.nn.Linear(300, 300), torch.nn.Linear(2, 2)
        both = [*used.parameters(), *idle.parameters()]
        if is_own:
            steps: Any = Adam(both, 0.1, decay)
        else:
            steps = torch.optim.AdamW(both, 0.1, weight_decay=decay, fused=True)
        for _ in range(3):
            used(torch.randn(4, 300)).square().mean().backward()
            steps.step()
            used.zero_grad()
        taken.append([one.detach().numpy() for one in both])
    for own, its in zip(*taken, strict=True):
        np.testing.assert_array_equal(own, its)
