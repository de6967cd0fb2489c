"""The commands score, rank and bundle, as a user meets them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_classifier, save, tamper, tiny_network, write_npz
from conftest import Run, write_image

from tllboost.bundle import save_bundle
from tllboost.classifier import PairClassifier, load_bundle
from tllboost.store import VectorStore, default_store
from tllboost.vectorizing import vectorize


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("made")
    vectorizer = f"onnx:{tiny_network(folder / 'net.onnx')}"
    classifier = make_classifier(vectorizer, "cosine", n_dims=3)
    return save(folder / "best.tllb", classifier, 3).read_bytes()


@pytest.fixture
def bundle(tmp_path: Path, made: bytes) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(made)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate(("a.jpg", "b.png", "c.jpg", "d.jpg")):
        write_image(folder / name, seed=seed)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("left,right,label\na,b.png,1\nc.jpg,a,0\na,b.png,1\nd,d,1\n")
    return path


def read_rows(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


# score


def test_score_tells_probability_decision_threshold_and_score(
    run: Run, bundle: Path, images: Path
) -> None:
    left, right = images / "a.jpg", images / "b.png"
    done = run("score", bundle, left, right)
    assert (done.returncode, done.stderr) == (0, "")
    words = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(words) == ["probability", "decision", "threshold", "prior", "score"]
    classifier = load_bundle(bundle)
    probability = classifier.predict_proba([[left, right]])[0, 1]
    match = classifier.predict([[left, right]])[0]
    assert words["probability"] == f"{probability:.4f}"
    assert words["decision"] == ("match" if match else "no match")
    assert (float(words["probability"]) >= float(words["threshold"])) == match
    found = run("score", bundle, left, right, "--json").json
    assert found["probability"] == pytest.approx(probability)
    assert set(found) == {"left", "right", *words}
    (row,) = run("score", bundle, left, right, "--csv").table
    assert float(row["score"]) == found["score"]


def test_a_prior_changes_probability_and_decision_and_no_score(
    run: Run, bundle: Path, images: Path
) -> None:
    pair = (images / "a.jpg", images / "b.png", "--json")
    even, rare = (
        run("score", bundle, *pair, *more).json for more in ((), ("--prior", "1/20"))
    )
    assert (even["prior"], rare["prior"], rare["threshold"]) == (0.5, 0.05, 0.5)
    odds = even["probability"] / (1 - even["probability"]) / 19
    assert rare["probability"] == pytest.approx(odds / (1 + odds))
    assert (rare["decision"] == "match") == (rare["probability"] >= 0.5)
    assert rare["score"] == even["score"]
    for least, said in ((rare["probability"] - 1e-6, "match"), (0.9999, "no match")):
        words = ("--prior", "0.05", "--threshold", least)
        told = run("score", bundle, *pair, *map(str, words)).json
        assert told == rare | {"threshold": least, "decision": said}


def test_a_threshold_alone_leaves_the_probability(
    run: Run, bundle: Path, images: Path, pairs: Path
) -> None:
    words = ("score", bundle, "--pairs", pairs, "--images", images)
    plain, strict = run(*words).table, run(*words, "--threshold", "0.999999").table
    assert [row["decision"] for row in plain] != [row["decision"] for row in strict]
    for one, other in zip(plain, strict, strict=True):
        assert one | {"decision": ""} == other | {"decision": ""}
        assert one["prior"] == "0.5"


@pytest.mark.parametrize("option", ["--prior", "--threshold"])
@pytest.mark.parametrize("value", ["0", "1/1", "1/0", "half"])
def test_a_share_that_is_none_is_refused_in_one_line(
    run: Run, bundle: Path, images: Path, option: str, value: str
) -> None:
    image = images / "a.jpg"
    for words in (
        ("score", bundle, image, image),
        ("rank", bundle, image, "--among", images),
        ("explain", bundle, image, image),
    ):
        done = run(*words, option, value)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"tllboost: {option[2:]} {value!r} must lie between 0 and 1: give one as "
            "0.05 or 1/20\n"
        )


def test_score_says_what_its_threshold_means(run: Run) -> None:
    text = " ".join(run("score", "--help").stdout.split())
    assert "match if its probability reaches the threshold" in text.replace("│ ", "")


def test_score_gives_a_row_a_pair_as_the_table_was_written(
    run: Run, bundle: Path, images: Path, pairs: Path
) -> None:
    done = run("score", bundle, "--pairs", pairs, "--images", images)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "left,right,probability,decision,score,prior"
    written = [("a", "b.png"), ("c.jpg", "a"), ("a", "b.png"), ("d", "d")]
    assert [(row["left"], row["right"]) for row in done.table] == written
    files = {"a": "a.jpg", "d": "d.jpg"}
    paths = [[images / files.get(one, one) for one in pair] for pair in written]
    wanted = load_bundle(bundle).predict_proba(paths)[:, 1]
    np.testing.assert_allclose(
        [float(row["probability"]) for row in done.table], wanted, rtol=1e-9
    )
    rows = run("score", bundle, "--pairs", pairs, "--images", images, "--json").json
    np.testing.assert_array_equal([row["probability"] for row in rows], wanted)
    assert rows[3]["decision"] == "match"  # an image and itself


def test_score_looks_the_sides_up_in_folders_of_their_own(
    run: Run, bundle: Path, images: Path, tmp_path: Path
) -> None:
    table = tmp_path / "sides.csv"
    table.write_text("left,right\na,a\n")
    other = tmp_path / "other"
    other.mkdir()
    write_image(other / "a.jpg", seed=9)
    done = run("score", bundle, "--pairs", table, "--left", images, "--right", other)
    (row,) = done.table
    assert (row["left"], row["right"]) == ("a", "a")
    assert float(row["score"]) < 1


def test_a_bad_image_takes_no_other_row_with_it(
    run: Run, bundle: Path, images: Path, pairs: Path
) -> None:
    whole = (images / "c.jpg").read_bytes()
    (images / "c.jpg").write_bytes(whole[: len(whole) // 2])
    done = run("score", bundle, "--pairs", pairs, "--images", images)
    assert done.returncode == 4
    assert [row["decision"] == "error" for row in done.table] == [
        False,
        True,
        False,
        False,
    ]
    assert done.table[1]["probability"] == done.table[1]["score"] == ""
    assert done.stderr.count("\n") == 1
    assert f"{images / 'c.jpg'}: the image is truncated" in done.stderr
    rows = run("score", bundle, "--pairs", pairs, "--images", images, "--json").json
    assert rows[1]["probability"] is None
    assert "truncated" in rows[1]["error"]
    alone = run("score", bundle, images / "a.jpg", images / "c.jpg")
    assert (alone.returncode, alone.stdout) == (3, "")
    assert "truncated" in alone.stderr


def test_strict_stops_scoring_and_ranking_at_the_first_bad_image(
    run: Run, bundle: Path, images: Path, pairs: Path, tmp_path: Path
) -> None:
    (images / "c.jpg").write_bytes(b"no image")
    candidates = tmp_path / "candidates.csv"
    candidates.write_text("left,c0,c1\na,b.png,c.jpg\n")
    out = tmp_path / "scores.csv"
    for command in (
        ("score", bundle, "--pairs", pairs, "--images", images),
        ("rank", bundle, images / "a.jpg", "--among", images),
        (
            "rank",
            bundle,
            "--candidates",
            candidates,
            "--images",
            images,
            "--out",
            out,
        ),
    ):
        done = run(*command, "--strict")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"tllboost: {images / 'c.jpg'}: is not an image in a format that "
            "tllboost reads\n"
        )
        assert not out.exists()
        assert run(*command).returncode == 4


def test_a_table_to_score_may_lead_anywhere_only_where_told(
    run: Run, bundle: Path, images: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    outside = write_image(other / "=e.jpg", seed=9)
    table = tmp_path / "outside.csv"
    table.write_text(f"left,right\na,../elsewhere/=e\na,{outside}\n")
    command = ("score", bundle, "--pairs", table, "--images", images)
    done = run(*command)
    assert done.returncode == 3
    assert "is outside its folder" in done.stderr
    assert "absolute path" in done.stderr
    first, second = run(*command, "--anywhere").table
    assert first["score"] == second["score"] != ""


def test_a_second_run_vectorizes_nothing(
    run: Run, bundle: Path, images: Path, tmp_path: Path
) -> None:
    arguments = ("score", bundle, images / "a.jpg", images / "b.png", "--json")
    first = run(*arguments)
    with VectorStore(default_store()) as store:
        (space,) = store.info()
    assert space["n_rows"] == 2
    assert run(*arguments, "--store", default_store()).json == first.json
    with VectorStore(default_store()) as store:
        assert store.info()[0]["n_rows"] == 2


def test_score_of_own_vectors_needs_no_images(run: Run, tmp_path: Path) -> None:
    vectors = write_npz(tmp_path / "own.npz")
    bundle = save(tmp_path / "own.tllb", make_classifier(f"vectors:{vectors}"))
    vectors.unlink()
    done = run("score", bundle, "left000", "right000", "--json")
    assert done.json["decision"] in ("match", "no match")
    missing = run("score", bundle, "left000", "nobody")
    assert missing.returncode == 3
    assert "nobody" in missing.stderr
    table = tmp_path / "pairs.csv"
    table.write_text("left,right\nleft000,right000\nleft001,nobody\n")
    done = run("score", bundle, "--pairs", table)
    assert done.returncode == 4
    assert [row["decision"] for row in done.table][1] == "error"


def test_weights_say_where_a_network_lies(
    run: Run, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tllboost.bundle.vectorizers.MAX_NETWORK_BYTES", 10)
    network = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{network}", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier, 3)
    pair = (images / "a.jpg", images / "b.png")
    lost = run("score", bundle, *pair)
    assert lost.returncode == 3
    assert "net.onnx" in lost.stderr
    assert "--weights FILE" in lost.stderr
    assert "not in the bundle" in run("bundle", "show", bundle).stdout
    assert "--weights" in run("bundle", "verify", bundle).stderr
    moved = network.rename(tmp_path / "elsewhere.onnx")
    assert run("score", bundle, *pair, "--weights", moved).returncode == 0
    verified = run("bundle", "verify", bundle, "--weights", moved)
    assert (verified.returncode, verified.stderr) == (0, "")
    wrong = tiny_network(tmp_path / "wrong.onnx", 2.0)
    assert run("score", bundle, *pair, "--weights", wrong).returncode == 3


# rank


def test_rank_orders_a_folder_best_first(run: Run, bundle: Path, images: Path) -> None:
    query = images / "a.jpg"
    others = [images / name for name in ("b.png", "c.jpg", "d.jpg")]
    wanted = load_bundle(bundle).rank(query, others)
    rows = run("rank", bundle, query, "--among", images, "--json").json
    assert [row["candidate"] for row in rows] == [str(path) for path, _ in wanted]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    for row, (_, probability) in zip(rows, wanted, strict=True):
        assert row["probability"] == pytest.approx(probability)
    table = run("rank", bundle, query, "--among", images, "--csv", "--top", "2").table
    assert [row["candidate"] for row in table] == [row["candidate"] for row in rows[:2]]
    shown = run("rank", bundle, query, "--among", images, "--top", "1")
    assert shown.stdout.splitlines()[0].split() == [
        "rank",
        "probability",
        "decision",
        "image",
    ]
    assert len(shown.stdout.splitlines()) == 2


def test_rank_takes_one_match_a_list_as_its_prior_and_says_so(
    run: Run, bundle: Path, images: Path
) -> None:
    words = ("rank", bundle, images / "a.jpg", "--among", images, "--json")
    done, even = run(*words), run(*words, "--prior", "1/2")
    assert done.stderr == "prior 0.3333: one match in 3 images; see --prior\n"
    assert even.stderr == run(*words, "--quiet").stderr == ""
    for row, other in zip(done.json, even.json, strict=True):
        assert (row["prior"], other["prior"]) == (1 / 3, 0.5)
        odds = other["probability"] / (1 - other["probability"]) / 2
        assert row["probability"] == pytest.approx(odds / (1 + odds))
        assert (row["decision"] == "match") == (row["probability"] >= 0.5)
        assert row["score"] == other["score"]
    strict = run(*words, "--threshold", "0.9999999").json
    assert {row["decision"] for row in strict} == {"no match"}


def test_rank_scores_all_or_a_shortlist(run: Run, images: Path) -> None:
    classifier = make_classifier("pixels?size=2", "random-forest", "l1")
    bundle = save(images.parent / "forest.tllb", classifier)
    words = ("rank", bundle, images / "a.jpg", "--among", images, "--json")
    every = run(*words, "--exact").json
    assert run(*words).json == every  # fewer than a shortlist holds
    short = run(*words, "--shortlist", "2", "--top", "2").json
    assert len(short) == 2
    scores = {row["candidate"]: row["score"] for row in every}
    assert all(row["score"] == pytest.approx(scores[row["candidate"]]) for row in short)


def test_rank_leaves_out_what_can_not_be_read(
    run: Run, bundle: Path, images: Path
) -> None:
    (images / "c.jpg").write_bytes(b"")
    done = run("rank", bundle, images / "a.jpg", "--among", images, "--json")
    assert done.returncode == 4
    assert len(done.json) == 2
    assert "c.jpg: the file is empty" in done.stderr
    bad_query = run("rank", bundle, images / "c.jpg", "--among", images)
    assert (bad_query.returncode, bad_query.stdout) == (3, "")


def test_rank_needs_images(
    run: Run, bundle: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = run("rank", bundle, images / "a.jpg", "--among", tmp_path / "empty")
    assert done.returncode == 3
    assert "no images in" in done.stderr


def test_candidates_give_a_submission(
    run: Run, bundle: Path, images: Path, tmp_path: Path
) -> None:
    table = tmp_path / "candidates.csv"
    table.write_text("left,c0,c1\nd,b.png,c\na.jpg,d,d\n")
    out = tmp_path / "deep" / "submission.csv"
    arguments = ("rank", bundle, "--candidates", table, "--images", images)
    done = run(*arguments, "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    header, *rows = read_rows(out)
    assert header == ["left", "c0", "c1"]
    assert [row[0] for row in rows] == ["d", "a.jpg"]
    files = [
        ("d.jpg", "b.png"),
        ("d.jpg", "c.jpg"),
        ("a.jpg", "d.jpg"),
        ("a.jpg", "d.jpg"),
    ]
    paths = [[images / one for one in pair] for pair in files]
    classifier = load_bundle(bundle)
    wanted = classifier.decision_function(paths) + classifier.threshold_
    scores = [float(cell) for row in rows for cell in row[1:]]
    np.testing.assert_allclose(scores, wanted, rtol=1e-12)
    assert run(*arguments).stdout == out.read_text()


def test_a_submission_leaves_empty_what_it_can_not_score(
    run: Run, bundle: Path, images: Path, tmp_path: Path
) -> None:
    (images / "c.jpg").write_bytes(b"no image")
    table = tmp_path / "candidates.csv"
    table.write_text("left,c0,c1\na,b,c\nd,c,b\n")
    done = run("rank", bundle, "--candidates", table, "--images", images)
    assert done.returncode == 4
    assert "c.jpg" in done.stderr
    assert [[bool(cell) for cell in row.values()] for row in done.table] == [
        [True, True, False],
        [True, False, True],
    ]
    table.write_text("left,c0,c1\na,b,nobody\n")
    done = run("rank", bundle, "--candidates", table, "--images", images)
    assert done.returncode == 3
    assert "candidates.csv:2" in done.stderr


# bundle


def test_bundle_show_and_verify(run: Run, bundle: Path) -> None:
    shown = run("bundle", "show", bundle)
    assert shown.returncode == 0
    for text in (
        "onnx:net, 3 numbers",
        "head         cosine",
        "net.onnx",
        "in the bundle",
    ):
        assert text in shown.stdout
    manifest = run("bundle", "show", bundle, "--json").json
    assert manifest["vectorizers"][0]["spec"] == "onnx:net.onnx"
    done = run("bundle", "verify", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sound" in done.stdout


def test_verify_opens_the_network(run: Run, bundle: Path) -> None:
    def resize(manifest: dict[str, Any], _: Any) -> None:
        manifest["vectorizers"][0]["spec"] = "onnx:net.onnx?size=32"

    tamper(bundle, resize)
    assert run("bundle", "show", bundle).returncode == 0
    done = run("bundle", "verify", bundle)
    assert done.returncode == 5
    assert "fingerprint is not what the bundle says" in done.stderr


@pytest.mark.parametrize("command", ["score", "rank", "show", "verify"])
def test_a_damaged_bundle_is_refused_in_one_line(
    run: Run, bundle: Path, images: Path, command: str
) -> None:
    damaged = bytearray(bundle.read_bytes())
    damaged[damaged.index(b"GlobalAveragePool")] ^= 1
    bundle.write_bytes(damaged)
    image = images / "a.jpg"
    arguments: dict[str, tuple[str | Path, ...]] = {
        "score": ("score", bundle, image, image),
        "rank": ("rank", bundle, image, "--among", images),
        "show": ("bundle", "show", bundle),
        "verify": ("bundle", "verify", bundle),
    }
    done = run(*arguments[command])
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1
    assert "best.tllb" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "score B",
        "score B A",
        "score B A A --pairs P",
        "score B A A --images D",
        "score B A A --json --csv",
        "score B --pairs P --images D --left D",
        "rank B",
        "rank B A",
        "rank B A --among D --candidates P",
        "rank B A --among D --out O",
        "rank B A --among D --left D",
        "rank B A --among D --top 0",
        "rank B A --among D --json --csv",
        "rank B --candidates P --images D --json",
        "rank B --candidates P --images D --prior 1/20",
        "rank B --candidates P --images D --threshold 0.9",
        "score B A A --colour",
    ],
)
def test_options_that_make_no_sense_are_refused(
    run: Run, bundle: Path, images: Path, pairs: Path, arguments: str
) -> None:
    words: dict[str, str | Path] = {
        "B": bundle,
        "A": images / "a.jpg",
        "D": images,
        "P": pairs,
        "O": images / "out.csv",
    }
    done = run(*(words.get(word, word) for word in arguments.split()))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_no_bundle_there_is_bad_input(run: Run, images: Path) -> None:
    done = run("score", images / "none.tllb", images / "a.jpg", images / "b.png")
    assert done.returncode == 3
    assert "none.tllb: the bundle can't be read" in done.stderr


# Real images and weights


@pytest.fixture(scope="module")
def real_bundle(
    shared: Path, tll: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A bundle of MobileNetV2 fitted on 100 pairs of TLL, and a store."""
    folder = tmp_path_factory.mktemp("real")
    rows = [row.split(",") for row in (tll / "pairs.csv").read_text().split()[1:101]]
    pairs = [
        [tll / "left" / f"{left}.jpg", tll / "right" / f"{right}.jpg"]
        for left, right in rows
    ]
    name = f"onnx:{shared / 'weights' / 'mobilenetv2.onnx'}"
    classifier = PairClassifier(name, store=folder / "store").fit(pairs)
    paths = [path for side in zip(*pairs[:8], strict=True) for path in side]
    found = vectorize(
        classifier.cells_[0].vectorizer, paths, store=folder / "store"
    ).vectors
    save_bundle(
        folder / "best.tllb",
        classifier,
        cell={"vectorizer": name, "merge": "dot", "head": "logistic"},
        metrics={},
        golden=[(found[:8], found[8:])],
    )
    return folder / "best.tllb", folder / "store"


@pytest.mark.shared
def test_the_challenge_gets_its_submission(
    run: Run, shared: Path, real_bundle: tuple[Path, Path], tmp_path: Path
) -> None:
    challenge = shared / "data" / "tll-challenge"
    bundle, store = real_bundle
    # Its first rows, as it writes them: an image is an image.
    lines = (challenge / "candidates.csv").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "candidates.csv").write_text("".join(lines[:7]), encoding="utf-8")
    done = run(
        "rank",
        bundle,
        *("--candidates", tmp_path / "candidates.csv"),
        *("--left", challenge / "left", "--right", challenge / "right"),
        *("--out", tmp_path / "submission.csv", "--store", store),
    )
    assert (done.returncode, done.stderr) == (0, "")
    asked = read_rows(tmp_path / "candidates.csv")
    given = read_rows(tmp_path / "submission.csv")
    assert given[0] == asked[0]
    assert [row[0] for row in given] == [row[0] for row in asked]
    scores = np.array([[float(cell) for cell in row[1:]] for row in given[1:]])
    assert scores.shape == (len(asked) - 1, 20)
    assert np.isfinite(scores).all()
    query, *ids = asked[1]
    ranked = load_bundle(bundle, store=store).rank(
        challenge / "left" / f"{query}.jpg",
        [challenge / "right" / f"{one}.jpg" for one in ids],
    )
    best = [Path(path).stem for path, _ in ranked]
    assert best == [ids[i] for i in np.argsort(-scores[0], kind="stable")]


@pytest.mark.shared
def test_a_real_bundle_ranks_matches_of_new_pairs_first(
    run: Run, tll: Path, real_bundle: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle, store = real_bundle
    rows = [row.split(",") for row in (tll / "pairs.csv").read_text().split()[-20:]]
    rights = ",".join(right for _, right in rows)
    table = tmp_path / "candidates.csv"
    header = ",".join(["left", *(f"c{i}" for i in range(20))])
    table.write_text("\n".join([header, *(f"{left},{rights}" for left, _ in rows)]))
    sides = ("--left", tll / "left", "--right", tll / "right")
    done = run("rank", bundle, "--candidates", table, *sides, "--store", store)
    scores = np.array([[float(row[f"c{i}"]) for i in range(20)] for row in done.table])
    rank = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    assert (rank <= 5).mean() >= 0.5  # chance: 0.25
