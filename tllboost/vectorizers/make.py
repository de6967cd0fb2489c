"""One part of a vectorizer's name, or an object, to the vectorizer."""

from __future__ import annotations

import importlib.util
from typing import Any

from tllboost.errors import UsageError
from tllboost.registry import Registry, import_path, lies_here
from tllboost.vectorizers.base import Vectorizer
from tllboost.vectorizers.spec import Spec, parse_spec

__all__ = ["make_one"]


def make_one(
    choice: Any, registry: Registry, *, device: str, offline: bool
) -> Vectorizer:
    """Return the vectorizer for one part of a name, or for an object.

    Raises
    ------
    UnknownNameError
        If the name is of no known kind and no module.
    UsageError
        If an object can't be a vectorizer, or options are wrong.
    """
    if isinstance(choice, Vectorizer):
        return choice
    if not isinstance(choice, str):
        return _wrap(choice)
    spec = parse_spec(choice)
    if spec.kind in registry:
        kind = registry.resolve(spec.kind)
        vectorizer: Vectorizer = kind.from_spec(spec, device=device, offline=offline)
        return vectorizer
    if not spec.rest or not _may_be_module(spec.kind):
        raise registry.unknown(spec.kind)
    return _own(spec)


def _own(spec: Spec) -> Vectorizer:
    spec.without_options()
    path = f"{spec.kind}:{spec.rest}"
    found = import_path(path, kind="vectorizer")
    if isinstance(found, Vectorizer):
        return found
    if isinstance(found, type) and issubclass(found, Vectorizer):
        return found()
    return _wrap(path)


def _wrap(target: Any) -> Vectorizer:
    from tllboost.vectorizers.custom import CustomVectorizer

    if not isinstance(target, str) and not hasattr(target, "transform"):
        msg = (
            f"{target!r} is no vectorizer: give a name, or an object with "
            "transform(images) -> (n_images, n_dims)"
        )
        raise UsageError(msg)
    return CustomVectorizer(target)


def _may_be_module(name: str) -> bool:
    """Tell a module's name from a misspelled kind, without importing it."""
    if "." in name:
        return True
    if not name.isidentifier():
        return False
    return importlib.util.find_spec(name) is not None or lies_here(name)
