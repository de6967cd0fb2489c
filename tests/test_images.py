from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageFile

from tllboost.errors import DataError, ImageError
from tllboost.images import (
    IMAGE_SUFFIXES,
    content_hash,
    find_images,
    open_image,
)
from tllboost.images.decoders import DECODERS, FORMATS, Decoders, decode


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours of the four quarters, clockwise from the top left."""
    width, height = image.size
    spots = [(1, 1), (3, 1), (3, 3), (1, 3)]
    return [image.getpixel((width * x // 4, height * y // 4)) for x, y in spots]


def quarters(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red, lime, blue and white quarters, clockwise from the top left."""
    width, height = size
    image = Image.new("RGB", size, "red")
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (width // 2, height // 2, width, height))
    image.paste("white", (0, height // 2, width // 2, height))
    return image.convert(mode)


RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize(
    "suffix", sorted(IMAGE_SUFFIXES - {".jp2", ".avif", *FORMATS["HEIF"]})
)
def test_every_suffix_that_we_list_can_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    formats = {".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG"}
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    quarters(mode).save(path, format=formats.get(suffix))
    image = open_image(path)
    assert image.mode == "RGB"
    assert image.size == (64, 48)


@pytest.mark.parametrize("suffix", [".jp2", ".avif"])
def test_newer_formats_are_read_where_pillow_has_them(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"image{suffix}"
    try:
        quarters().save(path)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"this Pillow does not write {suffix}")
    seen = np.array(corners(open_image(path)))
    assert np.abs(seen - [RED, LIME, BLUE, WHITE]).max() < 30


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / "image.heic"
    quarters().save(path, quality=95)
    seen = np.array(corners(open_image(path)))
    assert np.abs(seen - [RED, LIME, BLUE, WHITE]).max() < 30


@pytest.mark.parametrize(
    ("kind", "library", "said"),
    [
        ("heic", "HEIF", r"HEIC needs pillow-heif \(pip install 'tllboost\[heif\]'\)"),
        ("avif", "AVIF", r"AVIF needs Pillow 11\.3"),
    ],
)
def test_what_reads_a_newer_format_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, kind: str, library: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # it can't be imported
    Image.init()
    monkeypatch.delitem(Image.OPEN, library, raising=False)
    with pytest.raises(ImageError, match=said):
        decode(b"\0\0\0\x18ftyp" + kind.encode() + bytes(99))


def test_the_format_is_told_by_content_not_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    quarters().save(path, format="PNG")
    assert corners(open_image(path, shrink_to=8)) == [RED, LIME, BLUE, WHITE]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_exif_rotation_comes_out_upright(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    # The move that a camera held so would need, undone: what the sensor recorded.
    undo = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    recorded = quarters()
    for move in undo:
        recorded = recorded.transpose(move)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"turned.{suffix}"
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    if suffix == "webp":
        options = {"lossless": True}
    recorded.save(path, exif=exif, **options)
    image = open_image(path)
    assert image.size == (64, 48)
    seen = np.array(corners(image), dtype=int)
    assert np.abs(seen - [RED, LIME, BLUE, WHITE]).max() <= 3
    # and whoever looks at the EXIF again must not turn it again
    assert image.getexif().get(ExifTags.Base.Orientation) is None


def test_a_broken_exif_block_does_not_lose_the_image(tmp_path: Path) -> None:
    path = tmp_path / "exif.jpg"
    quarters().save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert open_image(path).size == (64, 48)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (4, 4), 0)  # clear black
    path = tmp_path / "clear.png"
    image.save(path)
    assert open_image(path).getpixel((0, 0)) == WHITE


def test_half_transparency_mixes_with_white(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(path)
    assert open_image(path).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_colour_declared_clear_becomes_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "clear.png"
    image = Image.new("RGB", (4, 4), "black").convert(mode)
    clear = (0, 0, 0) if mode == "RGB" else 0
    image.save(path, transparency=clear)
    assert open_image(path).getpixel((0, 0)) == WHITE


def test_a_palette_with_a_table_of_alphas_is_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=bytes([0, 255]))
    opened = open_image(path)
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLUE]


def test_a_palette_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    quarters().quantize(4).save(path)
    assert corners(open_image(path)) == [RED, LIME, BLUE, WHITE]


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_not_inverted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"print.{suffix}"
    quarters("CMYK").save(path, **({"quality": 95} if suffix == "jpg" else {}))
    seen = np.array(corners(open_image(path)), dtype=int)
    assert np.abs(seen - [RED, LIME, BLUE, WHITE]).max() <= 5


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "grey.png"
    Image.new("L", (4, 4), 255).convert(mode).save(path)
    assert open_image(path).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256).repeat(4, 0)
    if suffix == "pgm":  # Pillow writes them from 10.4 on
        path.write_bytes(b"P5 256 4 65535\n" + ramp.astype(">u2").tobytes())
    else:
        Image.fromarray(ramp).save(path)
    row = np.asarray(open_image(path))[0, :, 0].astype(int)
    assert np.abs(row - np.arange(256)).max() <= 1


def test_big_endian_sixteen_bits_are_read_the_right_way_round(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.frombytes("I;16B", (1, 1), b"\x80\x00").save(path)
    assert open_image(path).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([7e9, 7e9, 7e9], [0, 0, 0]),
    ],
)
def test_floating_point_greys_find_their_scale(
    tmp_path: Path, values: list[float], expected: list[int]
) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.array([values], dtype=np.float32)).save(path)
    row = np.asarray(open_image(path))[0, :, 0].astype(int)
    assert np.abs(row - expected).max() <= 1


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "nan.tif"
    Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)).save(path)
    with pytest.raises(ImageError, match="NaN"):
        open_image(path)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert open_image(path).getpixel((8, 8)) == RED


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm"])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut.{suffix}"
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_a_truncated_real_photo_says_so(tll: Path, tmp_path: Path) -> None:
    real = sorted((tll / "left").glob("*.jpg"))[0].read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(real[: len(real) // 2])
    with pytest.raises(ImageError, match="truncated"):
        open_image(path)
    with pytest.raises(ImageError, match="truncated"):
        open_image(path, shrink_to=32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"left,right\na,b\n", "is not an image"),
        (b"\x89PNG\r\n\x1a\n", "."),
        (b"\xff\xd8\xff", "."),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "odd.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        open_image(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="is a folder"):
        content_hash(tmp_path)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ImageError, match="null"):
        open_image("a\0b.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("read", [open_image, content_hash])
def test_a_fifo_is_refused_and_never_waited_for(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read, path)
        try:
            with pytest.raises(ImageError, match="not a regular file"):
                future.result(timeout=20)
        except TimeoutError:
            path.open("wb").close()  # lets the stuck thread go
            raise


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endless.jpg"
    path.symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="not a regular file"):
        open_image(path)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets here")
def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        with pytest.raises(ImageError, match="not a regular file"):
            open_image("s.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="other permissions here")
def test_a_file_without_permission_says_so(image: Path) -> None:
    image.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:  # who may read everything
        os.seteuid(65_534)
    try:
        with pytest.raises(ImageError, match="Permission"):
            open_image(image)
        with pytest.raises(ImageError, match="Permission"):
            content_hash(image)
    finally:
        if is_root:
            os.seteuid(0)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    """The largest that is allowed is read in test_decoders.py."""
    with pytest.raises(ImageError, match="8000 × 6251 is too many pixels"):
        DECODERS.decode(png_header(8_000, 6_251))


@pytest.mark.parametrize("side", [9_000, 12_000, 30_000])
def test_a_decompression_bomb_is_one_error_and_no_warning(
    tmp_path: Path, side: int
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(path)


@pytest.mark.parametrize("read", [open_image, content_hash])
def test_too_many_bytes_are_refused(
    image: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    monkeypatch.setattr("tllboost.images.MAX_BYTES", 100)
    with pytest.raises(ImageError, match="at most 100 allowed"):
        read(image)


def test_shrinking_never_goes_below_the_short_side_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    write_image(path, seed=1, size=(1600, 1200))
    assert open_image(path).size == (1600, 1200)
    for wanted in (1200, 700, 500, 256, 100):
        image = open_image(path, shrink_to=wanted)
        assert wanted <= min(image.size)
        assert min(image.size) < 2 * wanted or min(image.size) == 150
    small = open_image(path, shrink_to=300)
    whole = open_image(path).resize(small.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, dtype=int) - np.asarray(whole, dtype=int))
    assert difference.mean() < 1


def test_shrinking_knows_the_short_side_of_a_turned_image(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    quarters(size=(1600, 800)).save(path, exif=exif)
    assert open_image(path, shrink_to=400).size == (400, 800)


def test_pillows_own_settings_and_warning_filters_stay(
    image: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    filters = list(warnings.filters)
    open_image(image)
    with pytest.raises(ImageError):
        open_image(tmp_path / "bad.jpg")
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    assert list(warnings.filters) == filters


def test_many_threads_leave_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    # Pillow warns of an image this large, and warnings are errors here.
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(10_000, 10_000))
    good = write_image(tmp_path / "good.jpg", seed=0)
    filters = list(warnings.filters)

    def read(index: int) -> bool:
        try:
            return open_image(good if index % 2 else path).size == (96, 80)
        except ImageError:
            return False

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(read, range(200)))
    assert seen == [index % 2 == 1 for index in range(200)]
    assert list(warnings.filters) == filters


@settings(max_examples=150, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP"]))
def test_no_damage_escapes_as_anything_but_an_image_error(
    data: st.DataObject, suffix: str
) -> None:
    buffer = io.BytesIO()
    quarters().save(buffer, format=suffix)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        spot = data.draw(st.integers(0, len(content) - 1))
        content[spot] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    with suppress(ImageError):
        assert DECODERS.decode(bytes(content)).mode == "RGB"


def test_the_error_crosses_process_borders(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "none.jpg")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.reason) == (caught.value.path, caught.value.reason)


def test_the_image_outlives_its_file(image: Path) -> None:
    opened = open_image(image)
    image.unlink()
    assert opened.resize((8, 8)).size == (8, 8)


def test_content_hash_is_the_sha256_of_the_bytes(image: Path) -> None:
    expected = hashlib.sha256(image.read_bytes()).hexdigest()
    assert content_hash(image) == expected


def test_the_pixel_cap_is_what_the_environment_says(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(data: bytes) -> str:
        with pytest.raises(ImageError) as caught:
            fresh.decode(data)
        return caught.value.reason

    monkeypatch.setenv("TLLBOOST_MAX_PIXELS", "5000")
    fresh = Decoders()
    assert "(at most 5,000 allowed: see --max-pixels)" in refused(image.read_bytes())
    fresh.pool.close()
    # More than we, and Pillow, allow by themselves; the pixels behind are missing.
    monkeypatch.setenv("TLLBOOST_MAX_PIXELS", "400000000")
    assert "too many pixels" not in refused(png_header(19_000, 20_000))
    fresh.pool.close()
    with image.open("ab") as file:
        file.truncate(150_000_000)
    assert len(content_hash(image)) == 64
    for wrong in ("many", "50M", "0", "-1"):
        monkeypatch.setenv("TLLBOOST_MAX_PIXELS", wrong)
        with pytest.raises(ImageError, match=f"is '{wrong}': it must be a number"):
            content_hash(image)
    monkeypatch.delenv("TLLBOOST_MAX_PIXELS")
    with pytest.raises(ImageError, match="at most 100,000,000 allowed"):
        content_hash(image)


def test_find_images_is_sorted_and_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    for name in (
        "b.jpg",
        "a.PNG",
        ".hidden.jpg",
        "notes.txt",
        "sub/c.webp",
        ".x/d.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "album.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    names = ("a.PNG", "b.jpg", "broken.jpg", "sub/c.webp")
    assert find_images(tmp_path) == [tmp_path / name for name in names]


def test_find_images_refuses_a_missing_folder_and_a_file(image: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        find_images(image.parent / "none")
    with pytest.raises(DataError, match="Not a directory"):
        find_images(image)


@pytest.mark.shared
def test_all_the_real_images_can_be_read(shared: Path) -> None:
    paths = find_images(shared / "data")[::20]
    assert len(paths) > 100
    open_image(paths[0])  # starts what decodes, and its watcher
    threads_before = threading.active_count()
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(open_image, paths))
    assert {image.mode for image in images} == {"RGB"}
    assert threading.active_count() <= threads_before


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that claims a size, with next to no pixels behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


# Colour profiles and the many kinds of TIFF

ROWS, COLUMNS = np.mgrid[0:16, 0:16]
SCENE = np.stack([16 * COLUMNS, 16 * ROWS, 8 * (ROWS + COLUMNS)], -1).astype(np.uint8)
GREY = SCENE[..., :1].repeat(3, -1)
# Colorants as ICC profiles have them, adapted to D50: columns are red, green, blue.
TO_XYZ = {
    "sRGB": [
        [0.43607, 0.38515, 0.14307],
        [0.22249, 0.71687, 0.06061],
        [0.01392, 0.09708, 0.7141],
    ],
    "Adobe RGB": [
        [0.60974, 0.20528, 0.14919],
        [0.31111, 0.62567, 0.06322],
        [0.01947, 0.06087, 0.74457],
    ],
}


def icc(gamma: float, colorants: list[list[float]] | None = None) -> bytes:
    """Return a small ICC profile: of a grey with a gamma, or of three colorants."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    about = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(79)
    tags = {"desc": about, "wtpt": xyz([0.9642, 1.0, 0.8249]), "kTRC": curve}
    if colorants:
        del tags["kTRC"]
        tags |= {f"{one}TRC": curve for one in "rgb"}
        columns = np.transpose(colorants)
        tags |= {f"{a}XYZ": xyz(c) for a, c in zip("rgb", columns, strict=True)}
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        place = 128 + 4 + 12 * len(tags) + len(body)
        table += name.encode() + struct.pack(">II", place, len(content))
        body += content + bytes(-len(content) % 4)
    space = b"RGB " if colorants else b"GRAY"
    head = struct.pack(">I4xI4s4s4s", 132 + len(table) + len(body) - 4, 0x02100000,
                       b"mntr", space, b"XYZ ")  # fmt: skip
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += b"".join(map(number, (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + table + body


def linear(values: Any) -> np.ndarray:
    """Return the light of sRGB levels, by the formula of IEC 61966-2-1."""
    v = np.asarray(values) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def in_space(scene: np.ndarray, name: str, gamma: float) -> np.ndarray:
    """Return the levels that show the same colours in another RGB space."""
    light = linear(scene) @ np.transpose(TO_XYZ["sRGB"])
    light = light @ np.linalg.inv(np.transpose(TO_XYZ[name]))
    return np.rint(255 * light.clip(0, 1) ** (1 / gamma)).astype(np.uint8)


def apart(image: Any, scene: np.ndarray) -> np.ndarray:
    return np.abs(np.asarray(image, dtype=int) - scene)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_colours_of_another_space_are_moved_to_srgb(
    tmp_path: Path, suffix: str
) -> None:
    soft = np.asarray(Image.fromarray(SCENE).resize((96, 96)))
    stored = Image.fromarray(in_space(soft, "Adobe RGB", 2.2))
    how = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    path = tmp_path / f"wide.{suffix}"
    profile = icc(2.2, TO_XYZ["Adobe RGB"])
    stored.save(path, icc_profile=profile, **how.get(suffix, {}))
    assert apart(stored, soft).mean() > 4
    assert apart(open_image(path), soft).mean() < 1.2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_greys_of_another_curve_are_moved_to_srgb(tmp_path: Path, mode: str) -> None:
    levels = np.arange(256, dtype=np.uint8)[None].repeat(2, 0)
    image = Image.fromarray(levels)
    if mode == "I;16":
        image = Image.fromarray(levels.astype(np.uint16) * 257)
    image = image.convert(mode)
    image.save(tmp_path / "grey.png", icc_profile=icc(1.0))
    seen = np.asarray(open_image(tmp_path / "grey.png"))[0, :, 0]
    assert apart(255 * linear(seen), np.arange(256)).max() <= 2


SAID_NOTHING = {
    "sRGB": lambda: ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "no profile": lambda: b"no profile",
    "cut": lambda: icc(2.2, TO_XYZ["Adobe RGB"])[:200],
    "of greys": lambda: icc(1.0),
    "of Lab": lambda: ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
}


@pytest.mark.parametrize("profile", SAID_NOTHING.values(), ids=SAID_NOTHING)
def test_srgb_and_what_is_no_profile_of_the_image_change_no_pixel(profile) -> None:
    for mode in ("RGB", "RGBA", "CMYK"):
        plain, told = io.BytesIO(), io.BytesIO()
        image = Image.fromarray(SCENE).convert(mode)
        image.save(plain, "TIFF")
        image.save(told, "TIFF", icc_profile=profile())
        same = apart(decode(told.getvalue()), np.asarray(decode(plain.getvalue())))
        assert same.max() == 0, mode


def test_what_is_clear_stays_so_beside_a_profile() -> None:
    file, profile = io.BytesIO(), icc(2.2, TO_XYZ["Adobe RGB"])
    Image.new("RGBA", (2, 2), (0, 200, 0, 0)).save(file, "PNG", icc_profile=profile)
    assert decode(file.getvalue()).getpixel((0, 0)) == WHITE


def tiff(
    values: np.ndarray,
    *,
    bits: int = 16,
    kind: int = 1,
    photometric: int = 1,
    planar: bool = False,
    order: str = "<",
    packed: bool = False,
) -> bytes:
    """Return a TIFF by the letter of its specification, of numbers as they are."""
    if bits == 12:
        digits = "".join(f"{one:012b}" for one in values.ravel())
        body = int(digits, 2).to_bytes(len(digits) // 8, "big")
    else:
        letter = {1: "u", 2: "i", 3: "f"}[kind]
        body = values.astype(f"{order}{letter}{bits // 8}").tobytes()
    body = zlib.compress(body) if packed else body
    n_bands = values.shape[0] if planar else 1
    height, width = values.shape[-2:]
    size = len(body) // n_bands
    tags = {
        256: [width], 257: [height], 258: [bits] * n_bands, 259: [8 if packed else 1],
        262: [photometric], 273: [8 + band * size for band in range(n_bands)],
        277: [n_bands], 278: [height], 279: [size] * n_bands,
        284: [2 if planar else 1], 339: [kind],
    }  # fmt: skip
    at = 8 + len(body) + len(body) % 2
    table, beyond = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in tags.items():
        of = "I" if tag in (273, 279) else "H"
        content = struct.pack(f"{order}{len(numbers)}{of}", *numbers)
        if len(content) > 4:
            place = at + 2 + 12 * len(tags) + 4 + len(beyond)
            beyond += content
            content = struct.pack(f"{order}I", place)
        shape = struct.pack(f"{order}HHI", tag, 4 if of == "I" else 3, len(numbers))
        table += shape + content.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", at) + body
    return head.ljust(at, b"\0") + table + bytes(4) + beyond


def shades(most: float) -> np.ndarray:
    """Return the grey levels of the scene as numbers of another scale."""
    return np.rint(GREY[..., 0] / 255 * most) if most > 1 else GREY[..., 0] / 255


# Each shows the greys of the scene.
GREYS = {
    "8 bits": lambda: tiff(shades(255), bits=8),
    "12 bits": lambda: tiff(shades(4095).astype(int), bits=12),
    "16 bits": lambda: tiff(shades(65535)),
    "16 bits, big-endian": lambda: tiff(shades(65535), order=">"),
    "16 bits, packed": lambda: tiff(shades(65535), packed=True),
    "16 bits, white is 0": lambda: tiff(65535 - shades(65535), photometric=0),
    "16 bits with a sign": lambda: tiff(shades(32767), kind=2),
    "32 bits": lambda: tiff(shades(2**32 - 1), bits=32),
    "32 bits, packed": lambda: tiff(shades(2**32 - 1), bits=32, packed=True),
    "floating point": lambda: tiff(shades(1), bits=32, kind=3),
    "floating point, white is 0": lambda: tiff(
        1 - shades(1), bits=32, kind=3, photometric=0
    ),
    "floating point, big-endian": lambda: tiff(shades(1), bits=32, kind=3, order=">"),
}


@pytest.mark.parametrize("made", GREYS.values(), ids=GREYS)
def test_a_grey_tiff_shows_its_greys_whatever_its_numbers_are(made) -> None:
    assert apart(decode(made()), GREY).max() <= 1


BANDS = SCENE.transpose(2, 0, 1)
MISREAD = {
    "16 bits in uncompressed planes": lambda order: tiff(
        BANDS.astype(np.uint16) * 257, photometric=2, planar=True, order=order
    ),
    "signed 8 bits": lambda order: tiff(shades(127), bits=8, kind=2, order=order),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("what", MISREAD)
def test_a_tiff_that_pillow_misreads_is_refused_by_its_kind(
    what: str, order: str
) -> None:
    with pytest.raises(ImageError, match=f"TIFF of {what}.*: save it as PNG"):
        decode(MISREAD[what](order))


def test_a_packed_tiff_of_big_endian_floats_is_refused() -> None:
    made = tiff(shades(1), bits=32, kind=3, order=">", packed=True)
    with pytest.raises(ImageError, match="TIFF of compressed big-endian floating"):
        decode(made)


def test_planes_of_8_bits_are_read_right() -> None:
    made = tiff(BANDS, bits=8, photometric=2, planar=True)
    assert apart(decode(made), SCENE).max() == 0


@pytest.mark.shared
def test_every_odd_image_gives_its_right_value_or_is_refused(shared: Path) -> None:
    """As the README beside them says."""
    folder = shared / "data" / "odd-images"
    known = open_image(folder / "srgb.jpg")
    for name in ("adobe.jpg", "p3.jpg", "prophoto.jpg"):
        assert apart(open_image(folder / name), np.asarray(known, int)).mean() < 1.2
    rows, columns = np.mgrid[0:64, 0:64]
    colours = np.stack([4 * columns, 4 * rows, 2 * (rows + columns)], -1)
    greys = (4 * columns)[..., None].repeat(3, -1)
    assert apart(open_image(folder / "contig.tif"), colours).max() == 0
    assert apart(open_image(folder / "u32.tif"), greys).max() == 0
    with pytest.raises(
        ImageError, match=r"planar\.tif: .*16 bits in uncompressed planes"
    ):
        open_image(folder / "planar.tif")
    dark = np.rint(greys * 16 / 257)
    assert apart(open_image(folder / "g12.tif"), dark).max() <= 1
