from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from reliability import count

from tllboost import processes
from tllboost.errors import DataError, ImageError
from tllboost.images import decoders, open_image
from tllboost.images.decoders import Decoders
from tllboost.processes import ProcessDied


@pytest.fixture
def few() -> Iterator[Decoders]:
    made = Decoders(seconds=0.8)
    yield made
    made.pool.close()


def encoded(colour: object = "red", size: tuple[int, int] = (40, 30), **how) -> bytes:
    file = io.BytesIO()
    mode = "L" if isinstance(colour, int) else "RGB"
    Image.new(mode, size, colour).save(file, **{"format": "PNG", **how})
    return file.getvalue()


def jpeg_of_many_scans(n_scans: int, side: int = 6_000) -> bytes:
    """A progressive JPEG of a few kilobytes that goes over its pixels again and again.

    Every scan begins all blocks anew and holds next to nothing.
    """

    def segment(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body

    frame = struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)
    one_code = bytes([0, 1] + [0] * 15 + [0])
    start = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes([1] * 64))
    start += segment(0xC2, frame) + segment(0xC4, one_code)
    scan = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + b"\x00"
    return start + scan * n_scans + b"\xff\xd9"


def test_an_image_that_takes_for_ever_is_ended_and_the_next_is_read(
    few: Decoders,
) -> None:
    hostile = jpeg_of_many_scans(40_000)
    assert len(hostile) < 500_000
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"^slow\.jpg: took over 0\.8 s to decode$"):
        few.decode(hostile, path="slow.jpg")
    assert time.monotonic() - started < 10
    count("bad images tried")
    assert few.decode(encoded()).getpixel((0, 0)) == (255, 0, 0)


def test_an_image_that_takes_too_much_memory_is_refused() -> None:
    tight = Decoders(memory=200 << 20)
    data = encoded(7, (7_000, 7_000))
    assert len(data) < 100_000
    try:
        with pytest.raises(ImageError, match="needs more memory than an image may"):
            tight.decode(data, path="large.png")
        count("bad images tried")
        assert tight.decode(encoded()).size == (40, 30)
    finally:
        tight.pool.close()


def test_where_the_system_sets_no_limit_the_memory_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoders, "_ON_LINUX", False)
    watched = Decoders(memory=1 << 34)
    try:
        assert watched.decode(encoded()).size == (40, 30)
        watched.memory = 100  # any process has more
        with pytest.raises(ImageError, match="took over 0 MiB to decode"):
            watched.decode(jpeg_of_many_scans(40_000))
    finally:
        watched.pool.close()


def test_the_largest_image_allowed_fits_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("LA", (8_000, 6_250), (9, 200)).save(path, compress_level=1)
    assert open_image(path).size == (8_000, 6_250)


def test_a_decoder_that_was_ended_from_outside_costs_no_image(few: Decoders) -> None:
    few.decode(encoded())
    with few.pool.worker() as idle:
        idle.process.kill()
    assert few.decode(encoded("blue")).getpixel((0, 0)) == (0, 0, 255)
    count("kills survived")


def test_an_image_that_crashes_its_decoder_twice_is_named() -> None:
    patient = Decoders()
    hostile = jpeg_of_many_scans(40_000)
    before = {child.pid for child in psutil.Process().children()}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(patient.decode, hostile, path="crash.jpg")
        killed: set[int] = set()
        while len(killed) < 2 and not answer.done():
            for child in psutil.Process().children():
                if child.pid not in before | killed and child.cpu_times().user > 0.3:
                    child.kill()
                    killed.add(child.pid)
            time.sleep(0.01)
        with pytest.raises(ImageError, match=r"crash\.jpg: crashed its decoder"):
            answer.result(timeout=20)
    count("kills survived", len(killed))
    patient.pool.close()


def test_many_threads_get_their_own_images_back() -> None:
    shared = Decoders()
    before = len(psutil.Process().children())
    colours = [(i, 255 - i, i // 2) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(shared.decode, map(encoded, colours)))
    assert [one.getpixel((3, 3)) for one in images] == colours
    n_workers = len(psutil.Process().children()) - before
    assert n_workers <= max(2, os.cpu_count() or 1)
    shared.pool.close()


def test_an_interrupt_leaves_no_half_answer_behind(
    few: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    few.decode(encoded())
    ask = processes.Worker.ask

    def interrupted(worker: processes.Worker, *parts: bytes, **given: Any) -> bytes:
        with pytest.raises(ProcessDied):
            ask(worker, *parts, **given | {"most": 3})
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(processes.Worker, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            few.decode(encoded("blue"))
    assert few.decode(encoded("lime")).getpixel((0, 0)) == (0, 255, 0)


def test_a_python_that_can_not_be_started_is_no_fault_of_the_image(
    few: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(DataError, match=r"^can't start '/no/such/python'"):
        few.decode(encoded())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_decoders_end_with_their_process_and_are_not_shared_with_a_fork() -> None:
    code = """
        import io, os, signal, sys
        from PIL import Image
        import psutil
        from tllboost.images.decoders import DECODERS
        file = io.BytesIO()
        Image.new("RGB", (4, 4), "red").save(file, "PNG")
        DECODERS.decode(file.getvalue())
        (worker,) = psutil.Process().children()
        print(worker.pid, flush=True)
        import time
        time.sleep(0.5)
        child = os.fork()
        if not child:
            image = DECODERS.decode(file.getvalue())
            (own,) = psutil.Process().children()
            right = image.getpixel((0, 0)) == (255, 0, 0) and own.pid != worker.pid
            DECODERS.pool.close()
            os._exit(0 if right else 9)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    worker, child = done.stdout.split()
    assert child == "0"
    for _ in range(100):
        if not psutil.pid_exists(int(worker)):
            return
        time.sleep(0.05)
    pytest.fail("the decoder outlived its process")


def test_importing_and_reading_change_nothing_of_pillows(image: Path) -> None:
    code = """
        import sys, warnings
        from PIL import Image, ImageFile
        def state():
            return (
                ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK,
                Image.MAX_IMAGE_PIXELS, Image._initialized, list(Image.ID),
                sorted(Image.OPEN), list(warnings.filters),
            )
        before = state()
        from tllboost.images import open_image
        assert open_image(sys.argv[1]).size == (96, 80)
        assert state() == before, state()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(image)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_frozen_program_does_not_start_itself_again(
    few: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(DataError, match="this program is frozen"):
        few.decode(encoded())
