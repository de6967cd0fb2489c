"""How a cell is measured: the rules that split pairs into sets, and their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tllboost.errors import UsageError, check_range
from tllboost.registry import Entry, Registry

PROTOCOLS = Registry(
    "protocol",
    {
        "holdout": Entry(
            "tllboost.splits.sets:holdout",
            "components split once into train, validation and test",
        ),
        "kfold": Entry(
            "tllboost.splits.sets:kfold", "every component tested once, over k folds"
        ),
        "given": Entry(
            "tllboost.splits.sets:given", "the split column of the pair table"
        ),
        "holidays2017": Entry(
            "tllboost.splits:holidays2017",
            "the leaking 2017 protocol: pairs split at random 70/30",
        ),
    },
)
"""Rules: of a SplitTable, a Protocol and a Generator, to what each fold is.

That is the name of each pair's set, an array of "train", "validation", "test", or ""
for a pair that is left out. Non-matches are drawn once all pairs have their sets. A
rule that shares images between sets returns `Split` instead.
"""


@dataclass(frozen=True)
class Protocol:
    """How a cell is measured.

    Parameters
    ----------
    name : str, default="holdout"
        Which rule makes the sets: "holdout", "kfold", "given", "holidays2017", or
        ``package.module:function``; see :data:`PROTOCOLS`.
    n_distractors : int, default=19
        Distractors that each validation and test query is ranked against.
    n_negatives : int, default=5
        Non-matches drawn for each training match, beside those of the table; 0 takes
        the table's own alone.
    test_fraction, validation_fraction : float, default=0.2, 0.15
        Shares of all matches; folds take the place of `test_fraction` in "kfold".
    n_folds : int, default=5
        Folds of "kfold".
    n_hard : int, default=0
        How many of the non-matches drawn for each training match are its hardest: the
        nearest distractors, see :func:`~tllboost.splits.harden`. They depend on the
        vectors, so whoever has those chooses them.
    """

    name: str = "holdout"
    n_distractors: int = 19
    n_negatives: int = 5
    test_fraction: float = 0.2
    validation_fraction: float = 0.15
    n_folds: int = 5
    n_hard: int = 0

    def __post_init__(self) -> None:
        PROTOCOLS.resolve(self.name)
        held_out = self.test_fraction, self.validation_fraction
        if not (min(held_out) > 0 and sum(held_out) < 1):
            msg = (
                f"test_fraction={self.test_fraction} and validation_fraction="
                f"{self.validation_fraction} must be between 0 and 1, and "
                "leave a part for training"
            )
            raise UsageError(msg)
        for field, low in (("n_distractors", 1), ("n_negatives", 0), ("n_folds", 2)):
            check_range(field, getattr(self, field), low)
        if not 0 <= self.n_hard <= self.n_negatives:
            msg = (
                f"n_hard={self.n_hard} must be between 0 and n_negatives="
                f"{self.n_negatives}: hard ones are some of the non-matches drawn"
            )
            raise UsageError(msg)
        if self.n_hard and self.name == "holidays2017":
            msg = (
                f"n_hard={self.n_hard} does not go with the protocol 'holidays2017', "
                "which draws one random non-match for each match: give n_hard=0"
            )
            raise UsageError(msg)
