"""No damage to a bundle goes unnoticed, and no archive is believed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    PAIRS,
    made_bundle,
    refused,
    tamper,
    unless_refused,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reliability import count

from tllboost.bundle import read_manifest
from tllboost.classifier import load_bundle
from tllboost.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tllboost" / "networks"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "best.tllb"
    path.write_bytes(made_bundle("logistic"))
    return path


# Damage: without a new seal, any change is found


def test_no_flipped_byte_changes_a_score(bundle: Path) -> None:
    whole = bundle.read_bytes()
    wanted = load_bundle(bundle).predict_proba(PAIRS)

    @settings(
        max_examples=200,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def check(place: int, change: int) -> None:
        damaged = bytearray(whole)
        damaged[place] ^= change
        bundle.write_bytes(damaged)
        loaded = unless_refused(bundle)
        if loaded is not None:  # a time stamp, say
            np.testing.assert_array_equal(loaded.predict_proba(PAIRS), wanted)
            count("results compared")

    check()


def test_no_cut_goes_unnoticed(bundle: Path) -> None:
    whole = bundle.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        bundle.write_bytes(whole[:length])
        with refused():
            load_bundle(bundle)


@given(st.binary(max_size=300))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_noise_is_no_bundle(noise: bytes) -> None:
    path = Path(os.environ["XDG_CACHE_HOME"]).parent / "noise.tllb"
    path.write_bytes(noise)
    with refused("is not a bundle"):
        read_manifest(path)


def test_a_path_that_is_no_file_is_bad_input(tmp_path: Path) -> None:
    paths = [tmp_path, tmp_path / "none.tllb", "a\0b"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        paths.append(tmp_path / "pipe")
    for path in paths:
        with pytest.raises(DataError) as caught:
            load_bundle(path)
        assert caught.value.exit_code == 3


# The archive


def write_member(path: Path, name: str, data: bytes = b"x", **info: Any) -> None:
    member = zipfile.ZipInfo(name)
    for key, value in info.items():
        setattr(member, key, value)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, data)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.py",
        "/etc/cron.d/evil",
        "network/../../evil.onnx",
        "network/sub/net.onnx",
        "network\\net.onnx",
        "C:evil.onnx",
        "0/head.pkl",
        "network/net.pt",
        "network/.npz",
        "network/",
        "head.skops",
        "64/head.skops",
        "00/head.skops",
        "0/../head.skops",
        "0/projection.pkl",
        "0/golden.safetensors",
        "golden.safetensors/",
        "README.md",
    ],
)
def test_members_that_a_bundle_does_not_have_are_refused(
    bundle: Path, name: str
) -> None:
    write_member(bundle, name)
    with refused("has no place in a bundle"):
        load_bundle(bundle)


def test_members_beside_the_manifest_are_refused(bundle: Path) -> None:
    write_member(bundle, "network/other.onnx")
    with refused("is not in the manifest"):
        load_bundle(bundle)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_is_refused(bundle: Path) -> None:
    write_member(bundle, "manifest.json", b"{}")
    with refused(r"'manifest\.json' is there twice"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("name", "size"), [("golden.safetensors", 64_000_001), ("manifest.json", 1_000_001)]
)
def test_zip_bombs_are_refused_unread(tmp_path: Path, name: str, size: int) -> None:
    bomb = tmp_path / "bomb.tllb"
    write_member(bomb, name, bytes(size), compress_type=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    with refused("are allowed"):
        read_manifest(bomb)


def test_a_bomb_that_understates_its_size_is_cut_off(bundle: Path) -> None:
    data = bytes(10_000_000)
    tamper(bundle, lambda _, members: members.update({"0/head.skops": b"{}"}))
    with zipfile.ZipFile(bundle) as archive:
        kept = {i.filename: archive.read(i) for i in archive.infolist()}
    del kept["0/head.skops"]
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        info = zipfile.ZipInfo("0/head.skops")
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        info.file_size = 2  # what the directory at the end will say
    with refused(r"0/head\.skops"):
        load_bundle(bundle)


def test_encrypted_and_oddly_packed_members_are_refused(bundle: Path) -> None:
    whole = bundle.read_bytes()
    write_member(bundle, "0/head.skops", compress_type=zipfile.ZIP_BZIP2)
    with refused("compressed in a way"):
        load_bundle(bundle)
    directory = whole.rindex(b"PK\x01\x02")
    bundle.write_bytes(whole[: directory + 8] + b"\x01" + whole[directory + 9 :])
    with refused("is encrypted"):
        load_bundle(bundle)


def test_networks_that_unpack_to_more_than_they_take_are_refused(
    bundle: Path,
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with refused(r"'network/net\.npz' is compressed"):
        read_manifest(bundle)


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tllb"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("manifest.json", b"{}")
        archive.writestr("network/a.onnx", bytes(1000))
        one = archive.infolist()[1]
        for index in range(50):  # further names for the same bytes
            other = zipfile.ZipInfo(f"network/a{index}.onnx")
            for key in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(other, key, getattr(one, key))
            archive.filelist.append(other)
    with refused("its members overlap"):
        read_manifest(bomb)


@pytest.mark.parametrize(
    "name", ["golden.safetensors", "0/head.safetensors", "network/net.npz"]
)
def test_a_missing_member_is_named(bundle: Path, name: str) -> None:
    tamper(bundle, lambda _, members: members.pop(name), sealed=False)
    with refused(f"member '{name}' is missing"):
        read_manifest(bundle)
    tamper(bundle, lambda _, members: None)  # and out of the manifest too
    with refused():
        load_bundle(bundle)
