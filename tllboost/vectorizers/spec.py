"""The little grammar of vectorizer names.

::

    name    = part *("+" part)              fusion
    part    = kind [":" rest] ["?" option *("&" option)]
    rest    = ARCH [":" TAG] ["@" FILE]     clip, timm, clip-grid, timm-grid
            | FILE                          onnx, vectors
    option  = key "=" value

Any part of a fusion may say ``weight=NUMBER``.

A ``+`` joins only where a known kind (or ``package.module:Class``) follows, so that
file names may contain it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tllboost.errors import UsageError

__all__ = [
    "Options",
    "Spec",
    "is_weight",
    "one_of",
    "parse_spec",
    "positive",
    "split_fusion",
    "take_weight",
    "three_numbers",
    "truth",
    "with_weights",
]

Options = Mapping[str, Callable[[str], Any]]
"""Names of options, and what reads their text: ValueError where it is wrong."""

_WEIGHT = "weight"


@dataclass(frozen=True)
class Spec:
    """One part of a vectorizer's name, taken apart.

    Attributes
    ----------
    text : str
        The part as written, for messages.
    kind : str
        What stands before the first colon.
    rest : str
        What stands between that colon and the options.
    options : dict of str to str
        What stands after the question mark.
    """

    text: str
    kind: str
    rest: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def typed_options(self, known: Options) -> dict[str, Any]:
        """Return the options as values; a kind that has none knows none.

        Raises
        ------
        UsageError
            If one is unknown, or its value is not of the right form.
        """
        values = {}
        for key, text in self.options.items():
            if key not in known:
                legal = ", ".join(known) or "none"
                msg = f"unknown option {key!r} in {self.text!r}; known: {legal}"
                raise UsageError(msg)
            try:
                values[key] = known[key](text)
            except ValueError as error:
                msg = f"option {key}={text!r} in {self.text!r}: {error}"
                raise UsageError(msg) from error
        return values

    def without_rest(self) -> Spec:
        """Return this for a kind that is a name alone.

        Raises
        ------
        UsageError
            If more stands before the options.
        """
        if self.rest:
            msg = f"{self.text!r}: nothing follows {self.kind!r} but ?options"
            raise UsageError(msg)
        return self


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


def parse_spec(text: str) -> Spec:
    """Take one part apart.

    Raises
    ------
    UsageError
        If an option is not of the form ``key=value`` or is given twice.

    Examples
    --------
    >>> parse_spec("onnx:net.onnx?size=160&fit=squash").options
    {'size': '160', 'fit': 'squash'}
    """
    head, _, tail = text.partition("?")
    kind, _, rest = head.partition(":")
    options: dict[str, str] = {}
    for option in filter(None, tail.split("&")):
        key, equals, value = option.partition("=")
        if not equals or not key or not value:
            msg = f"option {option!r} in {text!r}: write it as key=value, joined by '&'"
            raise UsageError(msg)
        if key in options:
            msg = f"option {key!r} is given twice in {text!r}"
            raise UsageError(msg)
        options[key] = value
    return Spec(text=text, kind=kind, rest=rest, options=options)


def take_weight(spec: Spec) -> float:
    """Return the weight of a part of a fusion, no longer among its options.

    Raises
    ------
    UsageError
        If that is no number from 1e-6 to 1e6.

    Examples
    --------
    >>> spec = parse_spec("classic?weight=0.3&flip=true")
    >>> take_weight(spec), spec.options
    (0.3, {'flip': 'true'})
    """
    stated = spec.options.pop(_WEIGHT, "1")
    try:
        weight = float(stated)
    except ValueError:
        weight = math.nan
    if not is_weight(weight):
        msg = (
            f"option {_WEIGHT}={stated!r} in {spec.text!r}: write a number above zero, "
            "from 1e-6 to 1e6"
        )
        raise UsageError(msg)
    return weight


def is_weight(number: float) -> bool:
    """Tell whether vectors may be given the root of a number as their length.

    Examples
    --------
    >>> is_weight(0.3), is_weight(0), is_weight(1e300)
    (True, False, False)
    """
    return 1e-6 <= number <= 1e6


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


def truth(text: str) -> bool:
    """Return the truth value that `text` spells.

    Examples
    --------
    >>> truth("false")
    False
    """
    word = text.lower()
    if word not in {"true", "yes", "1", "false", "no", "0"}:
        msg = "write true or false"
        raise ValueError(msg)
    return word in {"true", "yes", "1"}


def three_numbers(text: str) -> tuple[float, float, float]:
    """Return one number a colour channel.

    Examples
    --------
    >>> three_numbers("0.5,0.5,0.5")
    (0.5, 0.5, 0.5)
    """
    numbers = tuple(float(part) for part in text.split(","))
    if len(numbers) != 3:
        msg = "write three numbers joined by commas, one a channel"
        raise ValueError(msg)
    return numbers


def positive(text: str) -> int:
    """Return a whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        msg = "write a whole number above zero"
        raise ValueError(msg)
    return int(text)


def one_of(*legal: str) -> Callable[[str], str]:
    """Return a converter that accepts only these words."""

    def convert(text: str) -> str:
        if text not in legal:
            msg = f"write one of {', '.join(legal)}"
            raise ValueError(msg)
        return text

    return convert
