"""How a cell is measured: which rule makes the sides, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass

from tllboost.errors import UsageError

__all__ = ["PROTOCOLS", "Protocol"]


PROTOCOLS = {
    "holdout": "components split once into train, validation and test",
    "kfold": "every component tested once, over k folds",
    "given": "the split column of the pair table",
    "holidays2017": "the leaking 2017 protocol: pairs split at random 70/30",
}


@dataclass(frozen=True)
class Protocol:
    """How a cell is measured.

    Parameters
    ----------
    name : {"holdout", "kfold", "given", "holidays2017"}, default="holdout"
        Which rule makes the sides.
    n_others : int, default=19
        Wrong candidates that each validation and test query is ranked against.
    n_negatives : int, default=5
        Non-matches drawn for each training match, beside those of the table; 0 takes
        the table's own alone.
    test_fraction, validation_fraction : float, default=0.2, 0.15
        Shares of all matches; folds take the place of `test_fraction` in "kfold".
    n_folds : int, default=5
        Folds of "kfold".
    n_hard : int, default=0
        How many of the non-matches drawn for each training match are its hardest: the
        nearest wrong candidates, see :func:`~tllboost.splits.harden`. They hang on the
        vectors, so whoever has those chooses them.
    """

    name: str = "holdout"
    n_others: int = 19
    n_negatives: int = 5
    test_fraction: float = 0.2
    validation_fraction: float = 0.15
    n_folds: int = 5
    n_hard: int = 0

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            msg = f"unknown protocol {self.name!r}: known: {', '.join(PROTOCOLS)}"
            raise UsageError(msg)
        if not (0 < self.test_fraction < 1 and 0 < self.validation_fraction < 1):
            msg = (
                f"test_fraction={self.test_fraction} and validation_fraction="
                f"{self.validation_fraction} must be between 0 and 1"
            )
            raise UsageError(msg)
        if self.test_fraction + self.validation_fraction >= 1:
            msg = "test_fraction + validation_fraction must leave a part for training"
            raise UsageError(msg)
        for field, low in (("n_others", 1), ("n_negatives", 0), ("n_folds", 2)):
            if getattr(self, field) < low:
                msg = f"{field}={getattr(self, field)} must be at least {low}"
                raise UsageError(msg)
        if not 0 <= self.n_hard <= self.n_negatives:
            msg = (
                f"n_hard={self.n_hard} must be between 0 and n_negatives="
                f"{self.n_negatives}: hard ones are some of the non-matches drawn"
            )
            raise UsageError(msg)
        if self.n_hard and self.name == "holidays2017":
            msg = (
                f"n_hard={self.n_hard} has no place in the protocol 'holidays2017', "
                "which draws one random non-match a match: give n_hard=0"
            )
            raise UsageError(msg)
