"""Decode images in processes of their own, under limits of time and memory.

An image that makes a decoder run on, grow or crash ends its process and becomes one
`ImageError`; the next image gets a new process. They start when first needed and are
kept: at most one a core. They write no file, and what they answer is never unpickled:
it is numbers of a fixed width, then the pixels or a reason. There the bytes of
one image become upright 8-bit RGB: of a fixed list of formats, of few pixels; and what
a vectorizer makes of these, if it is one that would keep threads waiting.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

from tllboost.errors import ImageError, UsageError, printable
from tllboost.processes import ONE_THREAD, Pool, ProcessDied, Worker, resident

if TYPE_CHECKING:
    import numpy as np


_LONGEST_REASON = 10_000
# Pieces of memory that were freed are kept for those to come: else the system clears
# each anew.
_KEPT = "arena_max=1", "mmap_threshold=33554432", "trim_threshold=33554432"
_TUNABLES = ":".join(f"glibc.malloc.{one}" for one in _KEPT)
# Elsewhere the system does not hold a process to its memory: it is watched.
_ON_LINUX = sys.platform.startswith("linux")
_REQUEST = struct.Struct("<QQQQ")
"""Pillow's own limit of pixels, ours, short side that is enough, bytes of the name of a
vectorizer; then these, and the image."""
_REPLY = struct.Struct("<?QQ")
"""Whether it worked, width and height; then the pixels or the reason. Of numbers that a
vectorizer prepared: their axes before the last, zeros where they are one row."""

MAX_PIXELS = 50_000_000
"""What an image may have where nobody says otherwise: see :func:`max_pixels`."""
_BYTES_A_PIXEL = 24  # what the memory of a decoder grows by
_UNNAMED = "<bytes>"
_COMMON = (b"\xff\xd8\xff", b"\x89PNG")  # JPEG and PNG begin so

FORMATS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),  # by pillow-heif
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "JPEG2000": (".jp2",),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""The formats that are decoded, and their suffixes. Pillow knows many more; one of
them starts a PostScript interpreter."""


def max_pixels() -> int:
    """Return how many pixels an image may have: ``TLLBOOST_MAX_PIXELS`` says so.

    Raises
    ------
    UsageError
        If that is no number above 0.

    Examples
    --------
    >>> max_pixels() >= 1
    True
    """
    said = os.environ.get("TLLBOOST_MAX_PIXELS", "")
    if said and not (said.isdecimal() and int(said)):
        msg = f"TLLBOOST_MAX_PIXELS is {said!r}: it must be a number of pixels above 0"
        raise UsageError(msg)
    return int(said) if said else MAX_PIXELS


class Decoders:
    """Processes that decode; any number of threads may ask at once.

    Parameters
    ----------
    seconds : float, default=60
        What an image may take.
    memory : int, default=2 GiB
        Bytes that the process of an image may take; more where images may be larger.
    """

    def __init__(self, *, seconds: float = 60.0, memory: int = 2 << 30) -> None:
        self.seconds = seconds
        self.memory = memory
        self.pool = Pool(self._start, most=max(2, os.cpu_count() or 1))

    @property
    def _limit(self) -> int:
        return self.memory + _BYTES_A_PIXEL * max(0, max_pixels() - MAX_PIXELS)

    def _start(self) -> Worker:
        return Worker(
            "tllboost.images.decoders:start",
            str(self._limit),
            options=("-I", "-S"),
            stderr=subprocess.DEVNULL,
            # One thread, as in this process: vectors are the same to the last bit.
            environment=ONE_THREAD | {"GLIBC_TUNABLES": _TUNABLES},
        )

    def decode(
        self,
        data: bytes,
        *,
        path: str | os.PathLike[str] = _UNNAMED,
        shrink_to: int | None = None,
        vectorizer: str = "",
    ) -> Any:
        """Return the image in `data` as upright RGB: `decode`, elsewhere.

        Parameters
        ----------
        data : bytes
            The content of an image's file.
        path : path-like, default="<bytes>"
            What to call it in the error.
        shrink_to : int, optional
            The short side that is enough, as in `tllboost.images.open_image`.
        vectorizer : str
            The name of one that prepares the image as well; the numbers that it makes
            of it, float32, are returned instead.

        Raises
        ------
        ImageError
            If it is no image that can be read within the limits.
        DataError
            If no process can be started.
        """
        n_most, pillow = max_pixels(), Image.MAX_IMAGE_PIXELS or 0
        if n_most > MAX_PIXELS:  # somebody asked for more than Pillow may allow
            pillow = max(pillow, n_most)
        name = vectorizer.encode()
        parts = _REQUEST.pack(pillow, n_most, shrink_to or 0, len(name)), name, data
        most = _REPLY.size + max(3 * n_most, _LONGEST_REASON)
        for last in (False, True):
            try:
                with self.pool.worker() as worker:
                    answer = worker.ask(*parts, look=self._look, most=most)
                break
            except ProcessDied as error:
                # Once more: what died may have been ended from outside.
                if last or error.verdict:
                    reason = error.verdict or f"crashed its decoder ({error})"
                    raise ImageError(path, reason) from None
        try:
            worked, *axes = _REPLY.unpack_from(answer)
            body = memoryview(answer)[_REPLY.size :]
            if worked and vectorizer:
                import numpy as np

                return np.frombuffer(body, np.float32).reshape(*filter(None, axes), -1)
            if worked:
                return Image.frombytes("RGB", (axes[0], axes[1]), body)
            reason = printable(str(body, "utf-8"))
        except (struct.error, ValueError) as error:
            reason = f"crashed its decoder ({error})"
        raise ImageError(path, reason)

    def _look(self, worker: Worker) -> str:
        if time.monotonic() - worker.since > self.seconds:
            return f"took over {self.seconds:g} s to decode"
        if not _ON_LINUX and resident(worker.pid) > self._limit:
            return f"took over {self._limit >> 20} MiB to decode"
        return ""


DECODERS = Decoders()
"""Those of this process."""


def start(max_memory: str) -> Callable[[bytes], list[bytes]]:
    """Return what answers, in a process of its own: see `tllboost.processes.serve`.

    Parameters
    ----------
    max_memory : str
        Bytes of memory that the process may take, where the system knows such a limit.
    """
    warnings.simplefilter("ignore")
    Image.preinit()
    with suppress(ImportError):
        from PIL import AvifImagePlugin

        # Each thread more would take address space of its own.
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    _limit(int(max_memory))
    return _answer


@cache
def _vectorizer(name: bytes) -> Any:
    return import_module("tllboost.vectorizers").make_vectorizer(name.decode())


def _answer(request: bytes) -> list[bytes]:
    pillow_limit, n_most, shrink_to, n_bytes = _REQUEST.unpack_from(request)
    Image.MAX_IMAGE_PIXELS = pillow_limit or None
    start = _REQUEST.size + n_bytes
    try:
        image = decode(request[start:], n_most, shrink_to=shrink_to or None)
        if not n_bytes:
            return [_REPLY.pack(True, *image.size), image.tobytes()]
        prepared = _vectorizer(request[_REQUEST.size : start]).prepare(image)
        return [_REPLY.pack(True, *prepared.shape[:-1] or (0, 0)), prepared.tobytes()]
    except ImageError as error:
        reason = error.reason
    except MemoryError:
        reason = "can't be decoded (it needs more memory than an image may)"
    except Exception as error:
        reason = f"can't be prepared ({type(error).__name__}: {error})"
    text = reason[: _LONGEST_REASON // 4].encode("utf-8", "backslashreplace")
    return [_REPLY.pack(False, 0, 0), text]


def _limit(max_memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the parent watches
        return
    for name, most in {"AS": max_memory, "FSIZE": 0, "CORE": 0}.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(OSError, ValueError):  # macOS refuses some: the parent watches
            resource.setrlimit(kind, (most, most))


# Of TIFF: the tags that say how numbers are kept, and what values of the last mean.
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _KIND = 258, 259, 262, 284, 339
_UNSIGNED, _SIGNED, _FLOATING = 1, 2, 3
# Of ICC: kinds of colours and Pillow's modes, and how colours are moved.
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_HOW = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
# Levels of 255 by which a colour may move and still be the same: curves of sRGB are
# written in a dozen ways.
_SAME = 3


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image of any mode as RGB: a new image, turned upright.

    Colours are moved to sRGB where the image carries an ICC profile of others.
    Transparency is laid on white. A grey of 16 bits is scaled by 65,535, floating
    point by 1 or 255 if it fits in there; what fits no scale is stretched from its
    lowest to its highest value.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded; its EXIF block says how it was held.

    Raises
    ------
    ValueError
        If pixels are NaN or infinite, or the mode has no way to RGB.

    Examples
    --------
    >>> upright_rgb(Image.new("LA", (2, 2), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    turn = 1
    with suppress(Exception):  # a broken EXIF block is no reason to lose the image
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    profile = image.info.get("icc_profile")
    is_clear = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(image))
    alpha = None
    if is_clear or {"A", "a"} & set(image.getbands()):
        whole = image.convert("RGBA")
        alpha = whole.getchannel("A")
        image = image.convert("L") if image.mode in ("L", "LA") else whole
    upright = _to_srgb(image, profile) if profile else image.convert("RGB")
    if alpha is not None:
        upright.putalpha(alpha)
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, upright).convert("RGB")
    upright.info = {}  # of the EXIF block, the turn alone
    upright.getexif()[ExifTags.Base.Orientation] = turn
    ImageOps.exif_transpose(upright, in_place=True)
    return upright


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an image as RGB, its colours moved from an ICC profile to sRGB.

    What is no profile, or one of another kind of colours, says nothing. Neither does
    one that moves no colour by more than rounding does: sRGB itself, whoever wrote it.
    """
    cms: Any = ImageCms  # whose functions may return None, when asked to
    with suppress(ImportError, OSError, KeyError, ImageCms.PyCMSError):
        of = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[of.profile.xcolor_space]
        how = ImageCms.createProfile("sRGB"), mode, "RGB", *_HOW
        move = ImageCms.buildTransform(of, *how)
        ramp = Image.linear_gradient("L")
        tried = Image.merge("RGB", [ramp, ramp.rotate(90), ramp.rotate(180)])
        moved = cms.applyTransform(tried := tried.convert(mode), move)
        apart: Any = ImageChops.difference(moved, tried.convert("RGB")).getextrema()
        fits = image.mode == mode or (mode == "RGB" and image.mode != "CMYK")
        if fits and max(high for _, high in apart) > _SAME:
            image = cms.applyTransform(image.convert(mode), move)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Return a grey of more than 8 bits as uint8, from its scale or else its range."""
    import numpy as np

    tags = getattr(image, "tag_v2", {})  # what the numbers of a TIFF mean
    (bits, *_), (kind, *_) = tags.get(_BITS, (16,)), tags.get(_KIND, (_UNSIGNED,))
    pixels = np.asarray(image)
    if (bits, kind) == (32, _UNSIGNED):  # Pillow takes them for signed
        pixels = pixels.view(np.uint32)
    pixels = pixels.astype(np.float64)
    if not np.isfinite(pixels).all():
        msg = "it has pixels that are NaN or infinite"
        raise ValueError(msg)
    low, high = float(pixels.min()), float(pixels.max())
    depth = 15 if (bits, kind) == (16, _SIGNED) else min(bits, 16)
    scales = [1.0, 255.0] if image.mode == "F" else [2.0**depth - 1]
    if high >= 2**31 and image.mode != "F":
        scales = [2.0**32 - 1]
    for scale in scales:
        if low >= 0 and high <= scale:
            break
    else:
        pixels, scale = pixels - low, (high - low) or 1.0
    scaled = np.rint(pixels * (255.0 / scale)).astype(np.uint8)
    return 255 - scaled if tags.get(_PHOTOMETRIC) == 0 else scaled  # white is 0


def _refuse_misread(image: Image.Image) -> None:
    """Refuse the kinds of TIFF whose numbers Pillow puts together wrongly."""
    tags: Any = getattr(image, "tag_v2", {})
    bits, kinds = max(tags.get(_BITS, (1,))), tags.get(_KIND, ())
    what = "signed 8 bits" if bits == 8 and _SIGNED in kinds else ""
    if tags.get(_COMPRESSION, 1) == 1:
        if bits > 8 and tags.get(_PLANAR) == 2:
            what = "16 bits in uncompressed planes"
    elif _FLOATING in kinds and tags.prefix == b"MM":
        what = "compressed big-endian floating point"
    if what:
        msg = f"TIFF of {what}, which is not supported: save it as PNG"
        raise ValueError(msg)


def decode(
    data: bytes, n_most: int = MAX_PIXELS, *, shrink_to: int | None = None
) -> Image.Image:
    """Return the image in `data` as upright RGB.

    Parameters
    ----------
    data : bytes
        The content of an image's file.
    n_most : int
        Pixels that it may have.
    shrink_to : int, optional
        The short side that is enough: a JPEG is decoded at a half, a quarter or an
        eighth, never below it.

    Raises
    ------
    ImageError
        If the bytes are no image that can be read, or one of too many pixels, which is
        refused before it is decoded.
    MemoryError
        If they would take more than this process may.
    """
    Image.preinit()
    if not data.startswith(_COMMON):  # all others take Pillow longer to load
        Image.init()  # this Pillow may be built without some
    if data[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if width * height > n_most:
                most = f"(at most {n_most:,} allowed: see --max-pixels)"
                msg = f"{width} × {height} is too many pixels {most}"
                raise ImageError(_UNNAMED, msg)
            # The same size twice: before the EXIF turn, no side is the short one.
            if shrink_to is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (shrink_to, shrink_to))
            _refuse_misread(image)
            image.load()
            return upright_rgb(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise ImageError(_UNNAMED, _reason(error, data)) from error


_HEIC = b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1"


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if data[4:12] in _HEIC and "HEIF" not in Image.OPEN:
            return "HEIC needs pillow-heif (pip install 'tllboost[heif]'), or save JPEG"
        if data[4:12] == b"ftypavif" and "AVIF" not in Image.OPEN:
            return "AVIF needs Pillow 11.3 (pip install 'pillow>=11.3'), or save JPEG"
        return "is not an image in a format that tllboost reads"
    if isinstance(error, Image.DecompressionBombError):
        return "has too many pixels"
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"the image is truncated ({text})"
    return f"can't be decoded ({text})"
