"""Bundles: one file that holds a fitted classifier and scores new pairs anywhere.

A ``.tllb`` file is a zip archive:

    manifest.json             what it is: vectorizers, cells, calibration, threshold,
                              metrics, versions, sha256 of every other member
    0/head.safetensors        what the head of cell 0 learned; of a head of
                              scikit-learn's own, head.skops
    0/projection.safetensors  what its projection learned, if it has one
    1/…                       the same of the other cells of an ensemble
    network/*                 the networks that were local files, up to 100 MB each
    golden.safetensors        vectors of a few pairs and the scores that they must get

It holds no code and no pickle. A sha256 tells a damaged bundle from a whole one; it
does not tell who wrote it, so whatever a bundle says is taken as a stranger's word.
"""

from tllboost.bundle.bundle import (
    load_bundle,
    read_manifest,
    read_scorer,
    save_bundle,
)

__all__ = ["load_bundle", "read_manifest", "read_scorer", "save_bundle"]
