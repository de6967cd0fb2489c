"""A store whose process is killed, whose disk is full or locked, whose bytes change."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from bundles import IDS, N_PAIRS, make_classifier, save, tiny_network, write_npz
from conftest import Run, write_image
from killed_work import BATCH_SIZE, N_IMAGES, Squares, images, looked_at
from killing import N_MOMENTS, kill_at_moments
from reliability import count

from tllboost import store as store_module
from tllboost.errors import StoreError
from tllboost.store import VectorStore
from tllboost.vectorizing import vectorize

HAS_KILL = hasattr(signal, "SIGKILL") and hasattr(os, "fork")


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return vectorize(Squares(), images(tmp_path_factory.mktemp("right"))).vectors


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in which vectorizing was killed, numbered by the moment."""
    folder = tmp_path_factory.mktemp("killed")
    images(folder)
    work = "killed_work:vectorizing"
    told = kill_at_moments(work, folder, n_moments=N_MOMENTS, seed=4)
    assert len(told) == N_MOMENTS
    return folder


@pytest.mark.skipif(not HAS_KILL, reason="no kill -9 here")
def test_kill_9_at_any_moment_of_vectorizing_costs_at_most_one_batch(
    killed: Path, right: np.ndarray
) -> None:
    stored_at = []
    for moment in range(N_MOMENTS):
        folder = killed / str(moment)
        with VectorStore(folder / "store") as store:
            assert store.verify() == [], moment
            n_stored = sum(entry["n_rows"] for entry in store.info())
        assert n_stored <= looked_at(folder) <= n_stored + BATCH_SIZE, moment
        result = vectorize(Squares(), images(killed), store=folder / "store")
        assert result.n_computed == N_IMAGES - n_stored, moment
        np.testing.assert_array_equal(result.vectors, right)
        with VectorStore(folder / "store") as store:
            assert store.verify() == [], moment
        stored_at.append(n_stored)
        count("kills survived")
        count("results compared", N_IMAGES)
    assert 0 < np.mean(stored_at) < N_IMAGES


# Several processes

BOTH = """
import sys
from pathlib import Path
from killed_work import Squares, images
from tllboost.vectorizing import vectorize
folder, log = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
given = images(folder)
result = vectorize(Squares(log), given, store=folder / "store", batch_size=4)
print(result.n_computed, result.vectors.tobytes().hex())
"""


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


def test_two_processes_on_one_folder_do_the_work_at_most_twice_and_never_wrongly(
    tmp_path: Path, right: np.ndarray
) -> None:
    images(tmp_path)
    processes = [start_python(BOTH, tmp_path, tmp_path / f"log{i}") for i in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    n_computed = 0
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        computed, found = output.split()
        n_computed += int(computed)
        assert bytes.fromhex(found) == right.tobytes()
        count("results compared", N_IMAGES)
    assert N_IMAGES <= n_computed <= 2 * N_IMAGES
    with VectorStore(tmp_path / "store") as store:
        assert store.verify() == []
        assert [entry["n_rows"] for entry in store.info()] == [N_IMAGES]


# Bytes that change

KEYS = [f"{number:02x}" * 32 for number in range(24)]
ROWS = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    with VectorStore(folder) as store:
        for start in range(0, len(KEYS), 8):
            some = slice(start, start + 8)
            store.add("squares|1", KEYS[some], ROWS[some])
        store.add("circles|1", KEYS, -ROWS)
        store.hashes_of([write_image(tmp_path / "a.png", seed=1)])
    return folder


def is_one_line(message: str, folder: Path) -> bool:
    return "\n" not in message and str(folder) in message


def serves_nothing_wrong(folder: Path) -> str:
    """Check that what a store gives is right or an error, and return which."""
    outcome = "right"
    for fingerprint, due in (("squares|1", ROWS), ("circles|1", -ROWS)):
        try:
            with VectorStore(folder) as store:
                got, found = store.get(fingerprint, KEYS)
        except StoreError as error:
            said = str(error)
            outcome = "refused" if is_one_line(said, folder) else said
            continue
        if found.any():
            wrong = int((got[found] != due[found]).any(axis=1).sum())
            count("wrong results served", wrong)
            assert not wrong
        count("results compared", len(KEYS))
        if not found.all() and outcome == "right":
            outcome = "not found"
    return outcome


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    start = int(rng.integers(len(changed)))
    end = min(start + 512, len(changed))
    changed[start:end] = bytes(end - start)
    return bytes(changed)


def scrambled(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    start = int(rng.integers(len(changed)))
    end = min(start + 64, len(changed))
    changed[start:end] = rng.bytes(end - start)
    return bytes(changed)


@pytest.mark.parametrize("spoil", [flipped, cut, zeroed, scrambled])
def test_a_spoiled_file_is_never_served_as_something_else(
    folder: Path, spoil: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    rng = np.random.default_rng(5)
    path = folder / "vectors.sqlite"
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(40):
        for each in folder.iterdir():
            each.unlink()
        path.write_bytes(spoil(whole, rng))
        outcomes.add(serves_nothing_wrong(folder))
        count("bad stores tried")
    assert "refused" in outcomes
    assert outcomes <= {"right", "not found", "refused"}


def test_an_index_that_quotes_damaged_text_is_one_line(folder: Path) -> None:
    path = folder / "vectors.sqlite"
    content = path.read_bytes()
    assert content.count(b"CREATE TABLE spaces") == 1
    path.write_bytes(
        content.replace(b"CREATE TABLE spaces", b"CREATE TABLE \xfe\xffaces")
    )
    assert serves_nothing_wrong(folder) == "refused"
    count("bad stores tried")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("space", "one"),
        ("key", None),
        ("key", "ff" * 32),
        ("checksum", None),
        ("checksum", "1"),
        ("checksum", -1),
        ("vector", None),
        ("vector", 6),
        ("vector", "text"),
        ("vector", b""),
        ("vector", bytes(23)),
        ("vector", bytes(2**20)),
    ],
)
def test_a_store_that_a_stranger_made_up_is_refused(
    run: Run, folder: Path, column: str, value: object
) -> None:
    with closing(sqlite3.connect(folder / "vectors.sqlite")) as other, other:
        rows = other.execute("SELECT space, key, checksum, vector FROM vectors")
        names = ("space", "key", "checksum", "vector")
        rows = [dict(zip(names, row, strict=True)) for row in rows]
        other.execute("DROP TABLE vectors")
        other.execute(f"CREATE TABLE vectors ({', '.join(names)})")
        for row in (rows[0] | {column: value}, *rows[1:]):
            other.execute("INSERT INTO vectors VALUES (?, ?, ?, ?)", [*row.values()])
    assert serves_nothing_wrong(folder) in ("refused", "not found")
    done = run("store", "verify", "--store", folder)
    assert done.returncode == 5
    assert "does not match its checksum" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    run("store", "prune", "--store", folder)
    assert run("store", "verify", "--store", folder).returncode == 0
    count("bad stores tried")


# Disks that take nothing more

READ_ONLY = """
import os, sys
import numpy as np
from tllboost.errors import StoreError
from tllboost.store import VectorStore
if os.getuid() == 0:  # nothing is read-only to root
    os.setresuid(65534, 65534, 65534)
for name in ("store", "new"):
    try:
        with VectorStore(sys.argv[1] + "/" + name) as store:
            store.add("squares|1", ["ff" * 32], np.ones((1, 6), np.float32))
        print("written")
    except StoreError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(os, "setresuid"), reason="no such permissions here")
def test_a_read_only_store_is_named_and_stays_as_it_is() -> None:
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        root = Path(name)
        with VectorStore(root / "store") as store:
            store.add("squares|1", KEYS, ROWS)
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for path in (*before, root / "store", root):
            path.chmod(0o444 if path.is_file() else 0o555)
        try:
            process = start_python(READ_ONLY, root)
            output, errors = process.communicate(timeout=60)
        finally:
            for path in (root, root / "store"):
                path.chmod(0o755)
        assert errors == ""
        old, new = output.splitlines()
        for line, folder in ((old, "store"), (new, "new")):
            assert line.startswith(f"the store {str(root / folder)!r}"[:-1])
            assert "fix the permissions" in line
        assert {path: path.read_bytes() for path in before} == before
        assert not (root / "new").exists()
        count("bad stores tried", 2)


FULL = """
import resource, signal, sys
from pathlib import Path
from killed_work import Squares, images
from tllboost.errors import StoreError
from tllboost.vectorizing import vectorize
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    vectorize(Squares(), images(folder), store=folder / "store", batch_size=4)
    print("done")
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits here")
@pytest.mark.parametrize("limit", [2_000, 20_000, 60_000])
def test_a_disk_that_fills_up_while_vectorizing_costs_nothing_that_was_stored(
    tmp_path: Path, right: np.ndarray, limit: int
) -> None:
    given = images(tmp_path)
    process = start_python(FULL, tmp_path, limit)
    output, errors = process.communicate(timeout=60)
    assert errors == ""
    (line,) = output.splitlines()
    assert line.startswith("the store ")
    assert str(tmp_path / "store") in line
    with VectorStore(tmp_path / "store") as store:
        assert store.verify() == []
        n_stored = sum(entry["n_rows"] for entry in store.info())
    result = vectorize(Squares(), given, store=tmp_path / "store")
    assert result.n_computed == N_IMAGES - n_stored
    np.testing.assert_array_equal(result.vectors, right)
    count("bad stores tried")
    count("results compared", N_IMAGES)


# A store that nobody chose is a cache


def lose_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user whom the system does not know, as containers have them."""
    pwd = pytest.importorskip("pwd")

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def fill_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite have no page more than an empty store takes."""
    really = store_module._open_file

    def opened(path: Path) -> sqlite3.Connection:
        connection = really(path)
        if path.parent.name == "store":
            connection.execute("PRAGMA max_page_count = 8")
        return connection

    monkeypatch.setattr(store_module, "_open_file", opened)


@pytest.fixture(scope="module")
def pocket_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    return save(folder / "best.tllb", make_classifier("pocket", "cosine", n_dims=384))


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("grid", "no home"),
        ("score", "no home"),
        ("rank", "no folder can be made"),
        ("explain", "no folder can be made"),
        ("vectorize", "no home"),
        ("vectorize", "no folder can be made"),
        ("vectorize", "full"),
    ],
)
def test_where_the_cache_can_not_be_used_one_note_says_so_and_work_goes_on(
    command: str,
    state: str,
    pocket_bundle: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = [write_image(tmp_path / f"{n}.png", seed=n) for n in range(2)]
    monkeypatch.chdir(tmp_path)
    if state == "no home":
        lose_home(monkeypatch)
    elif state == "full":
        fill_up(monkeypatch)
    else:  # a file where the folder should be stops root as well
        (tmp_path / "cache").write_text("")
    words: tuple[object, ...] = (pocket_bundle, *images)
    if command == "grid":
        vectors = f"vectors:{write_npz(tmp_path / 'own.npz')}"
        rows = [f"{IDS[n]},{IDS[n + N_PAIRS]}\n" for n in range(N_PAIRS)]
        (tmp_path / "pairs.csv").write_text("".join(["left,right\n", *rows]))
        how = ("-c", "cosine", "-j", 1, "--no-report", "--out", "out")
        words = ("pairs.csv", "-v", vectors, *how)
    elif command == "vectorize":
        words = (*images, "-v", "pixels", "-v", "pixels?size=8")
    elif command == "rank":
        words = (pocket_bundle, images[0], "--among", tmp_path)
    elif command == "explain":
        words = (pocket_bundle, *images, "--out", "page.html")
    done = run(command, *words)
    assert done.returncode == 0, done.stderr
    (note,) = (one.getMessage() for one in caplog.records if "store" in one.name)
    assert note.endswith("going on without it: vectors are not kept")
    assert not list(tmp_path.glob("~*"))
    count("bad stores tried")


def test_a_store_that_was_asked_for_and_can_not_be_used_is_an_error(
    image: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    words = ("vectorize", image, "-v", "pixels")
    for option in (("--store", tmp_path / "file"), ()):
        monkeypatch.setenv("TLLBOOST_STORE", "" if option else str(tmp_path / "file"))
        done = run(*words, *option)
        assert done.returncode == 5
        assert "can't be used" in done.stderr
        assert done.stderr.count("\n") == 1


def test_without_a_home_commands_of_the_store_say_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_home(monkeypatch)
    for command in ("info", "verify", "prune"):
        done = run("store", command)
        assert done.returncode == 5
        assert "TLLBOOST_STORE" in done.stderr


def test_a_cache_that_is_damaged_or_another_programs_is_not_passed_over(
    image: Path, run: Run, tmp_path: Path
) -> None:
    place = tmp_path / "cache" / "tllboost" / "store"
    place.mkdir(parents=True)
    (place / "vectors.sqlite").write_bytes(b"no database" * 100)
    done = run("vectorize", image, "-v", "pixels")
    assert done.returncode == 5
    assert "delete the folder" in done.stderr


def test_the_network_of_a_bundle_opens_without_a_home(
    run: Run, tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny_network(tmp_path / "net.onnx")
    classifier = make_classifier(f"onnx:{net}?size=16", "cosine", n_dims=3)
    bundle = save(tmp_path / "best.tllb", classifier)
    net.unlink()
    lose_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert run("score", bundle, image, image).returncode == 0
    assert not list(tmp_path.glob("~*"))
