"""How a network is fine-tuned.

What a fine-tuned file says of its training, in its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tllboost.errors import UsageError, WeightsError, check_range
from tllboost.finetune.images import Augmentation


@dataclass(frozen=True)
class FineTuneSettings:
    """How a network is fine-tuned.

    Parameters
    ----------
    n_stages : int, default=2
        How many of the last stages are trained; what follows them goes with the last.
    n_epochs : int, default=6
        Passes over the training matches at most; the learning rate falls to zero over
        them along a cosine.
    patience : int, default=2
        Passes without gain on validation before training stops.
    batch_size : int, default=32
        Matches a step; each is told from the others of its batch.
    learning_rate : float, default=3e-4
        Of AdamW, for the network.
    weight_decay : float, default=0.01
        Of AdamW.
    n_components : int, default=256
        Width of the projection that the loss sees; it is dropped at the end. With 0
        the loss sees the vectors themselves.
    temperature : float, default=0.1
        Of the loss, InfoNCE (van den Oord et al., 2018).
    n_views : int, optional
        Augmented views of each training image that are made once, and taken through
        the frozen stages once. 0 makes new ones at every pass, and keeps none. By
        default 6 on a CPU and 0 on a GPU.
    augmentation : Augmentation
        How the views differ.

    Raises
    ------
    UsageError
        If a value is out of its range.

    Examples
    --------
    >>> FineTuneSettings(n_stages=1).n_epochs
    6
    """

    n_stages: int = 2
    n_epochs: int = 6
    patience: int = 2
    batch_size: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    n_components: int = 256
    temperature: float = 0.1
    n_views: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        lowest = {"n_stages": 1, "n_epochs": 1, "patience": 1, "batch_size": 2}
        lowest |= {"n_components": 0, "weight_decay": 0, "n_views": 0}
        for name, low in lowest.items():
            if (value := getattr(self, name)) is not None:
                check_range(name, value, low)
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                msg = f"{name}={getattr(self, name)!r} must be above 0"
                raise UsageError(msg)


FORMAT = "tllboost fine-tuning 1"


def read_record(file: str | Path) -> Mapping[str, str] | None:
    """Return the header of a file that fine-tuning made, None for any other.

    Raises
    ------
    WeightsError
        If there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(file).is_file():
        msg = f"there is no file {str(file)!r}"
        raise WeightsError(msg)
    try:
        with safe_open(file, framework="numpy") as opened:
            record: Mapping[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return record if record.get("made_by") == FORMAT else None


def trained_on(file: str | Path) -> frozenset[str]:
    """Return which images a network was fine-tuned on.

    Parameters
    ----------
    file : path-like
        Weights.

    Returns
    -------
    frozenset of str
        First 16 digits of the sha256 of each image's file, validation's included:
        figures on any of them are no figures on new images. Empty for weights that
        were not fine-tuned here.

    Raises
    ------
    WeightsError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    ...     trained_on(file.name)
    frozenset()
    """
    record = read_record(file)
    return frozenset(record["trained_on"].split()) if record else frozenset()
