"""Fitted cells put together to one classifier: a single one, or an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np

from tllboost.calibration import Calibration
from tllboost.classifier import PairClassifier
from tllboost.errors import UsageError
from tllboost.fitted import FittedCell

__all__ = ["ensemble"]


def ensemble(
    cells: Sequence[FittedCell],
    *,
    calibration: Calibration | None = None,
    threshold: float | None = None,
    store: str | PathLike[str] | None = None,
    device: str = "auto",
) -> PairClassifier:
    """Return a fitted classifier of cells that are fitted already.

    The score of several cells is the mean of their calibrated log-odds. The arguments
    of the classifier are those of the first cell: `sklearn.base.clone` of an ensemble
    is that one cell, not fitted.

    Parameters
    ----------
    cells : sequence of FittedCell
        At least one.
    calibration : Calibration or None, default=None
        Curve from score to probability, see
        :func:`~tllboost.calibration.fit_calibration`. None takes that of a single
        cell, and the mean log-odds of several as they are.
    threshold : float or None, default=None
        Score at and above which a pair is called a match. None takes that of a single
        cell, and even odds for several.
    store : path-like or None, default=None
        Folder of the vector store.
    device : str, default="auto"
        Where networks run when it is fitted again.

    Raises
    ------
    UsageError
        If there is no cell.
    """
    if not cells:
        msg = "cells is empty: give at least one fitted cell"
        raise UsageError(msg)
    first = cells[0]
    scorer = first.scorer
    alone = len(cells) == 1
    if calibration is None:
        calibration = scorer.calibration_ if alone else Calibration(1.0, 0.0)
    if threshold is None:
        threshold = scorer.threshold_ if alone else 0.0
    classifier = PairClassifier(
        first.vectorizer,
        projection=first.projection_spec,
        merge=scorer.merge,
        head=scorer.head,
        store=store,
        device=device,
    )
    classifier.cells_ = tuple(cells)
    classifier.calibration_ = calibration
    classifier.threshold_ = float(threshold)
    classifier.classes_ = np.array([0, 1])
    return classifier
