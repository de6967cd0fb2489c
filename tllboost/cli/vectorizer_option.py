"""Names of vectorizers from the command line, with ``--weights`` put in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tllboost.vectorizers import Vectorizer

__all__ = ["make_vectorizers", "with_weights"]

_TAKES_WEIGHTS = ("clip", "clip-grid", "timm", "timm-grid")


def make_vectorizers(
    names: Sequence[str],
    *,
    weights: Path | None = None,
    device: str = "auto",
    offline: bool = False,
) -> list[Vectorizer]:
    """Return the vectorizers that were asked for; nothing is loaded yet.

    Raises
    ------
    UsageError
        If a name is wrong, or it is not clear whose the weights are.
    """
    from tllboost.vectorizers import make_vectorizer

    if weights is not None:
        names = with_weights(names, weights)
    return [make_vectorizer(name, device=device, offline=offline) for name in names]


def with_weights(names: Sequence[str], weights: Path) -> list[str]:
    """Put ``@FILE`` behind the one network that can take it.

    Examples
    --------
    >>> with_weights(["classic+timm:resnet50?size=160"], Path("net.safetensors"))
    ['classic+timm:resnet50@net.safetensors?size=160']
    """
    from tllboost.errors import UsageError
    from tllboost.vectorizers import VECTORIZERS
    from tllboost.vectorizers.spec import split_fusion

    split = [split_fusion(name, VECTORIZERS) for name in names]
    takers = [part for parts in split for part in parts if _takes(part)]
    if len(takers) != 1:
        found = ", ".join(takers) or "none"
        msg = (
            f"--weights {str(weights)!r} is for one clip: or timm: network without a "
            f"file, found {found}: write NAME@FILE in -v instead"
        )
        raise UsageError(msg)
    return [
        "+".join(_placed(part, weights) if _takes(part) else part for part in parts)
        for parts in split
    ]


def _takes(part: str) -> bool:
    name = part.partition("?")[0]
    return name.partition(":")[0] in _TAKES_WEIGHTS and "@" not in name


def _placed(part: str, weights: Path) -> str:
    name, mark, options = part.partition("?")
    return f"{name}@{weights}{mark}{options}"
