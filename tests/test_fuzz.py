"""Readers fed with nonsense: they refuse in their own words, or read it right.

In the suite the same few hundred tries every time; ``make fuzz`` draws new ones, many
more of them (TLLBOOST_FUZZ says how many of each kind).
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import IDS, LEFT, RIGHT, make_classifier, save, tamper, write_npz
from conftest import write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from reliability import count

from tllboost.bundle import read_manifest
from tllboost.classifier import load_bundle
from tllboost.errors import BundleError, DataError, ImageError, TllboostError
from tllboost.images.decoders import DECODERS
from tllboost.pairs import read_candidates, read_pairs
from tllboost.vectorizers.arrays import ArrayVectorizer

N_TRIES = int(os.environ.get("TLLBOOST_FUZZ", "0"))
PAIRS = [[IDS[left], IDS[right]] for left in LEFT[:5] for right in RIGHT[:3]]


def fuzz(n_examples: int) -> settings:
    """Return the same few tries every time, or many new ones."""
    return settings(
        max_examples=N_TRIES or n_examples,
        derandomize=not N_TRIES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Content(bytes):
    """Bytes that don't fill the screen; the blob that hypothesis prints has them."""

    def __repr__(self) -> str:
        return super().__repr__() if len(self) < 1_000 else f"<{len(self)} bytes>"


# Numbers that sit at the edge of what a length, a size or an offset can be.
EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Draw one of some files, and do to it what disks, networks and forgers do."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        to = at + draw(st.integers(0, 64))
        match draw(st.integers(0, 6)):
            case 0:
                content[at] ^= draw(st.integers(1, 255))
            case 1:
                width = draw(st.sampled_from([1, 2, 4]))
                edge = draw(st.sampled_from(EDGES)) & (256**width - 1)
                content[at : at + width] = edge.to_bytes(width, "big")
            case 2:
                del content[at:to]
            case 3:
                content[at:at] = content[at:to]
            case 4:
                content[at:at] = draw(st.binary(max_size=16))
            case 5:
                other = draw(st.sampled_from(seeds))
                content[at:] = other[min(at, len(other) - 1) :]
            case _:
                del content[at:]
    return Content(content)


def attempt(
    kind: type[TllboostError], function: Callable[[], Any]
) -> tuple[Any, TllboostError | None]:
    """Return what a function returns, or the error of this kind that it raises."""
    try:
        return function(), None
    except kind as error:
        return None, error


def one_line(error: Exception) -> bool:
    return str(error).isprintable() and len(str(error)) < 2_000


# Images


def read_or_refused(content: bytes) -> None:
    """Decode; what comes out is a sound image, or an error of one line."""
    image, error = attempt(ImageError, lambda: DECODERS.decode(content))
    if error is not None:
        assert one_line(error)
    else:
        assert image.mode == "RGB"
        assert np.asarray(image).shape == (image.height, image.width, 3)
    count("bad images tried")


def made_images() -> list[bytes]:
    """Return small images of every form that is read, plain and odd."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True, "optimize": True}),
        (image.convert("CMYK"), "JPEG", {}),
        (image.convert("RGBA"), "PNG", {}),
        (image.convert("P"), "PNG", {"transparency": 0}),
        (image.convert("L"), "TIFF", {"compression": "tiff_lzw"}),
        (image, "GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        (image, "WEBP", {}),
        (image, "BMP", {}),
    ]
    made = []
    for one, suffix, options in kinds:
        buffer = io.BytesIO()
        one.save(buffer, format=suffix, **options)
        made.append(buffer.getvalue())
    return made


@fuzz(150)
@given(mutations(made_images()))
def test_images_of_every_form_are_read_or_refused(content: bytes) -> None:
    read_or_refused(content)


@fuzz(40)
@given(st.binary(max_size=200), st.sampled_from(made_images()))
def test_noise_behind_the_start_of_an_image_is_no_harm(
    noise: bytes, seed: bytes
) -> None:
    read_or_refused(noise)
    read_or_refused(seed[: len(noise) + 8] + noise)


@pytest.mark.shared
def test_real_jpegs_that_were_damaged_are_read_or_refused(tll: Path) -> None:
    seeds = [path.read_bytes() for path in sorted((tll / "left").glob("*.jpg"))[:12]]
    assert len(seeds) == 12

    @fuzz(150)
    @given(mutations(seeds))
    def check(content: bytes) -> None:
        read_or_refused(content)

    check()


# Tables


TABLES = [
    b"left,right\na,b\nc,d\n",
    b"\xef\xbb\xbfleft;right;label;split\r\na;b;1;train\r\nc;d;0;test\r\n",
    b"left\tright\tquery\na\tb\t1\nb\tc\t2\n",
    b'left,right\n"a ""b""",c\n"d\ne",f\n',
    b"left,right,label\na,b,1\nb,a,0\n,\n../a,/b,maybe\n",
    "left,right\né,日本\n=1+1,@x\n".encode(),
    b"left,c0,c1,c2\na,b,c,d\ne,f,g,h\n",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed, name in enumerate("abcdefgh"):
        write_image(folder / f"{name}.png", seed=seed, size=(8, 8))
    return folder


@pytest.mark.parametrize("read", [read_pairs, read_candidates])
@pytest.mark.parametrize("with_images", [False, True])
def test_tables_are_read_or_refused(
    tmp_path: Path, images: Path, read: Callable[..., object], with_images: bool
) -> None:
    path = tmp_path / "table.csv"
    where = {"images": images} if with_images else {}

    @fuzz(100)
    @given(st.one_of(mutations(TABLES), st.binary(max_size=120)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        table, error = attempt(DataError, lambda: read(path, **where))
        if error is not None:
            assert error.exit_code == 3
            assert str(error).replace("\n", "").replace("\t", "").isprintable()
            assert len(str(error).splitlines()) <= 25
        else:
            assert len(set(table.ids)) == len(table.ids) > 0
            if with_images:
                assert all(one.is_relative_to(images) for one in table.paths)
        count("bad tables tried")

    check()


# Bundles and arrays


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small bundles of several kinds of heads."""
    folder = tmp_path_factory.mktemp("made")
    base = f"vectors:{write_npz(folder / 'net.npz')}"
    kinds = [("logistic", "none"), ("mlp", "none"), ("random-forest", "none")]
    kinds += [("xgboost", "none"), ("cosine", "triplet")]
    classifiers = [make_classifier(base, head, projection=p) for head, p in kinds]
    return [save(folder / "x.tllb", one).read_bytes() for one in classifiers]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def scores_of(path: Path) -> np.ndarray | None:
    """Return the scores of a bundle, None where it is refused."""
    count("bad bundles tried")
    scores, error = attempt(
        TllboostError,
        lambda: read_manifest(path) and load_bundle(path).decision_function(PAIRS),
    )
    if error is not None:
        assert isinstance(error, BundleError) or "--trust-code" in str(error)
        assert one_line(error)
        return None
    count("results compared")
    return scores


def test_damaged_bundles_are_refused_or_score_as_before(
    tmp_path: Path, made: list[bytes]
) -> None:
    path = tmp_path / "best.tllb"
    wanted = []
    for whole in made:
        path.write_bytes(whole)
        wanted.append(load_bundle(path).decision_function(PAIRS))

    @fuzz(80)
    @given(mutations(made))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        scores = scores_of(path)
        if scores is not None:
            assert any(np.array_equal(scores, one) for one in wanted)

    check()


def test_forged_bundles_are_refused_or_score_in_numbers(
    tmp_path: Path, made: list[bytes]
) -> None:
    path = tmp_path / "best.tllb"

    @fuzz(80)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        path.write_bytes(data.draw(st.sampled_from(made)))
        with zipfile.ZipFile(path) as archive:
            names = sorted(set(archive.namelist()) - {"manifest.json"})
            name = data.draw(st.sampled_from(names))
            content = archive.read(name)
        forged = data.draw(mutations([content]))
        tamper(path, lambda _, members: members.update({name: forged}))
        scores = scores_of(path)
        if scores is not None:
            assert np.isfinite(scores).all()

    check()


def test_damaged_arrays_are_refused_or_finite(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    np.savez_compressed(path, ids=np.array(["a", "b"]), vectors=np.eye(2))
    packed = path.read_bytes()
    np.savez(path, ids=np.array(["a", "b"]), vectors=np.eye(2, dtype=np.float16))
    plain = path.read_bytes()

    @fuzz(80)
    @given(mutations([packed, plain]))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        found, error = attempt(
            DataError, lambda: ArrayVectorizer(path).lookup(["a", "b"])
        )
        if error is not None:
            assert one_line(error)
        else:
            assert np.isfinite(found[0]).all()
        count("bad networks tried")

    check()
