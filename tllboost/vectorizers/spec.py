"""The little grammar of vectorizer names: what a fusion adds to that of all names.

::

    name    = part *("+" part)              fusion
    part    = kind [":" rest] ["?" option *("&" option)]
    rest    = ARCH [":" TAG] ["@" FILE]     clip, timm, clip-grid, timm-grid
            | FILE                          onnx, vectors

Any part of a fusion may say ``weight=NUMBER``.

A ``+`` joins only where a known kind (or ``package.module:Class``) follows, so that
file names may contain it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tllboost.registry import Option, Spec

__all__ = ["is_weight", "split_fusion", "with_weights"]

_WEIGHT = "weight"


def split_fusion(text: str, kinds: Iterable[str]) -> list[str]:
    """Return the parts of a fusion; one part if it is none.

    Examples
    --------
    >>> split_fusion("onnx:a+b.onnx+classic", ["onnx", "classic"])
    ['onnx:a+b.onnx', 'classic']
    """
    names = "|".join(re.escape(kind) for kind in kinds)
    own = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?=$|[+?])"
    return re.split(rf"\+(?=(?:{names})(?:$|[:+?])|{own})", text)


def take_weight(spec: Spec) -> float:
    """Return the weight of a part of a fusion, no longer among its options.

    Raises
    ------
    UsageError
        If that is no number from 1e-6 to 1e6.

    Examples
    --------
    >>> from tllboost.registry import parse_spec
    >>> spec = parse_spec("classic?weight=0.3&flip=true")
    >>> take_weight(spec), spec.options
    (0.3, {'flip': 'true'})
    """
    stated = replace(spec, options={_WEIGHT: spec.options.pop(_WEIGHT, "1")})
    weight: float = stated.typed_options({_WEIGHT: _weight})[_WEIGHT]
    return weight


def is_weight(number: float) -> bool:
    """Tell whether vectors may be given the root of a number as their length.

    Examples
    --------
    >>> is_weight(0.3), is_weight(0), is_weight(1e300)
    (True, False, False)
    """
    return 1e-6 <= number <= 1e6


_weight = Option("a number above zero, from 1e-6 to 1e6", float, is_weight)


def with_weights(texts: Sequence[str], weights: Sequence[float] | None) -> list[str]:
    """Return the parts of a fusion, each with its weight unless that is 1.

    Examples
    --------
    >>> with_weights(["pocket", "classic", "pixels?size=8"], (1, 0.3, 2))
    ['pocket', 'classic?weight=0.3', 'pixels?size=8&weight=2']
    """
    return [
        text if one == 1 else f"{text}{'&?'['?' not in text]}{_WEIGHT}={one:.9g}"
        for text, one in zip(texts, weights or [1] * len(texts), strict=True)
    ]
