"""What other systems do otherwise, each faked here: Windows, macOS, network drives."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from tllboost import files
from tllboost.cli import streams
from tllboost.errors import DataError
from tllboost.files import write_text
from tllboost.finetune import images as finetune_images
from tllboost.finetune.images import Augmentation, Maps
from tllboost.images import decoders
from tllboost.images.decoders import Decoders
from tllboost.store import VectorStore


def test_the_memory_of_a_decoder_is_that_of_the_process_behind_a_launcher(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environments on Windows start Python so (cpython#83086)."""
    really = subprocess.Popen

    def launched(command: list[str], **how: Any) -> subprocess.Popen[bytes]:
        return really(["sh", "-c", '"$@"; exit', "launcher", *command], **how)

    measured: list[int] = []
    monkeypatch.setattr(subprocess, "Popen", launched)
    monkeypatch.setattr(decoders, "_ON_LINUX", False)
    monkeypatch.setattr(decoders, "resident", lambda n: measured.append(n) or 2**40)
    decoder = Decoders()
    with decoder.pool.worker() as worker:
        worker.ask(decoders._REQUEST.pack(0, 10**6, 0, 0), image.read_bytes())
        assert decoder._look(worker) == "took over 2048 MiB to decode"
        assert measured == [worker.pid]
        parent = psutil.Process(worker.pid).ppid()
        assert parent == worker.process.pid != worker.pid
    decoder.pool.close()


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="nothing here says EINVAL")
def test_a_pipe_that_is_closed_as_windows_tells_it_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There it is EINVAL (cpython#79935), which this file says of three bytes."""
    number = os.eventfd(0)
    try:
        pipe = streams._Pipe(number, "w", closefd=False)
        with pytest.raises(OSError, match="Invalid argument") as caught:
            pipe.write(b"abc")
        assert caught.value.errno == errno.EINVAL
        monkeypatch.setattr(streams, "sys", SimpleNamespace(platform="win32"))
        assert pipe.write(b"abc") == 3
        assert pipe.write(b"and more") == 8
    finally:
        os.close(number)


@pytest.mark.parametrize("n_refused", [2, 100])
def test_a_file_that_a_scanner_holds_is_replaced_a_moment_later(
    n_refused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "matrix.csv"
    write_text(target, "old")
    really, refused, waits = Path.replace, [], list[float]()

    def replace(self: Path, to: Path) -> Path:
        if len(refused) < n_refused:
            refused.append(self)
            raise PermissionError(errno.EACCES, "used by another process", str(to))
        return really(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", waits.append)
    if n_refused == 2:
        write_text(target, "new")
    else:
        with pytest.raises(DataError, match="used by another process"):
            write_text(target, "new")
    assert target.read_text() == ("new" if n_refused == 2 else "old")
    assert 0 < sum(waits) < 2
    assert [one.name for one in tmp_path.iterdir()] == ["matrix.csv"]


class _Zeros(Maps):
    """Maps of two numbers, of no network."""

    def shape(self) -> tuple[int, ...]:
        return (2,)

    def batches(self, batches: Sequence[Sequence[tuple[int, int]]]) -> Iterator[Any]:
        torch = pytest.importorskip("torch")
        yield from (torch.zeros(len(batch), 2) for batch in batches)


def test_a_file_of_maps_is_closed_before_it_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to write a file that is mapped."""
    loaded: list[Any] = []
    load, make = np.load, np.lib.format.open_memmap

    def loading(*arguments: Any, **how: Any) -> Any:
        kept = load(*arguments, **how)
        loaded.append(weakref.ref(kept))
        return kept

    def making(*arguments: Any, **how: Any) -> Any:
        assert [one() for one in loaded] == [None] * len(loaded)
        return make(*arguments, **how)

    monkeypatch.setattr(finetune_images.np, "load", loading)
    monkeypatch.setattr(np.lib.format, "open_memmap", making)
    for n_images in (3, 4):
        maps = _Zeros(None, None, [], Augmentation(), 0, 1)  # type: ignore[arg-type]
        jobs = [(n, 0) for n in range(n_images)]
        maps.keep(jobs, tmp_path, lambda *_: None)
        assert maps._kept.shape == (n_images, 2)
        del maps
    assert loaded


@pytest.mark.parametrize(
    ("fstype", "opts", "mode"),
    [
        ("ext4", "rw", "wal"),
        ("nfs4", "rw", "delete"),
        ("cifs", "rw", "delete"),
        ("NTFS", "rw,remote", "delete"),
    ],
)
def test_a_store_on_a_network_drive_shares_no_memory(
    fstype: str,
    opts: str,
    mode: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disks = [
        SimpleNamespace(mountpoint="/", fstype="ext4", opts="rw"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype=fstype, opts=opts),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: disks)
    with VectorStore(tmp_path / "store") as store:
        store.add("squares|1", ["0a" * 32], np.ones((1, 3), np.float32))
        assert store.get("squares|1", ["0a" * 32])[1].all()
    with closing(sqlite3.connect(tmp_path / "store" / "vectors.sqlite")) as opened:
        assert opened.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_a_network_drive_without_a_letter_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "realpath", lambda _: r"\\server\images\store")
    with VectorStore(tmp_path / "store") as store:
        store.add("squares|1", ["0a" * 32], np.ones((1, 3), np.float32))
    with closing(sqlite3.connect(tmp_path / "store" / "vectors.sqlite")) as opened:
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("delete",)
