"""Turn a choice into the thing: a name, a ``package.module:attr`` path, or the object.

One registry a kind (vectorizers, merges, heads). Entries are import paths, so that
listing the names imports none of the libraries behind them. Options follow a name,
whatever its kind, and a set of values in braces stands for a name with each of them::

    name    = kind [":" rest] ["?" option *("&" option)]
    option  = key "=" (value | "{" value *("," value) "}")
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from tllboost.errors import UnknownNameError, UsageError, missing_library, need, retold


class Entry(NamedTuple):
    """Where a named thing lives, what it is in one line, and libraries it needs."""

    path: str
    description: str
    needs: Sequence[str] = ()


def import_path(path: str, *, kind: str = "object") -> Any:
    """Return the object behind ``package.module:attr``.

    Parameters
    ----------
    path : str
        For example ``"sklearn.svm:SVC"``.
    kind : str, default="object"
        What is looked for, for the message.

    Raises
    ------
    UnknownNameError
        If the module or its attribute does not exist.
    MissingLibraryError
        If the module exists and needs a library that is not installed.

    Examples
    --------
    >>> import_path("math:sqrt")(9.0)
    3.0
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith("."):
        msg = f"unknown {kind} {path!r}: its module must come before the colon"
        raise UnknownNameError(msg)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            msg = f"unknown {kind} {path!r}: there is no module {missing!r} to import"
            if lies_here(missing):
                msg += "; it is in this folder: set PYTHONPATH=. to find it"
            raise UnknownNameError(msg) from error
        raise missing_library(missing, f"{kind} {path!r}") from error
    text = f"unknown {kind} {path!r}: module {module_name!r} has no {attribute!r}"
    with retold(text, UnknownNameError, AttributeError):
        return getattr(module, attribute)


def path_of(thing: Any) -> str:
    """Return the import path of a class or function, or of the class of an object.

    Examples
    --------
    >>> path_of(Entry), path_of(Entry("math:pi", "pi"))
    ('tllboost.registry:Entry', 'tllboost.registry:Entry')
    >>> path_of(did_you_mean)
    'tllboost.registry:did_you_mean'
    """
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}:{kind.__qualname__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question about the nearest of the known names, empty if none is near.

    Examples
    --------
    >>> did_you_mean("resnet5", ["resnet50", "vgg16"])
    "did you mean 'resnet50'? "
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def lies_here(module: str) -> bool:
    """Tell whether a module lies in the current folder, importable or not.

    A command, unlike ``python -m``, does not look there: a folder of images may hold
    a stranger's code.

    Examples
    --------
    >>> lies_here("no_such_module")
    False
    """
    root = module.partition(".")[0]
    return Path(f"{root}.py").is_file() or Path(root, "__init__.py").is_file()


@dataclass(frozen=True)
class Option:
    """What reads the text of an option, and says in words what may be written.

    Examples
    --------
    >>> truth("false"), positive("3")
    (False, 3)
    >>> positive("0")
    Traceback (most recent call last):
      ...
    ValueError: write a whole number above zero
    """

    words: str
    read: Callable[[str], Any]
    is_legal: Callable[[Any], bool] = lambda value: value == value  # but for NaN

    def __call__(self, text: str) -> Any:
        """Return the value that `text` spells; ValueError where it spells none."""
        with suppress(ValueError, KeyError):
            if self.is_legal(value := self.read(text)):
                return value
        msg = f"write {self.words}"
        raise ValueError(msg)


Options = Mapping[str, Callable[[str], Any]]
"""Names of options, and what reads their text: ValueError where it is wrong."""


def one_of(*legal: str) -> Option:
    """Return an option that accepts only these words."""
    return Option(f"one of {', '.join(legal)}", str, lambda word: word in legal)


_MOST = 1_000_000  # not beyond what float32 can be multiplied by
_TRUTHS = dict.fromkeys(("true", "yes", "1"), True)
_TRUTHS |= dict.fromkeys(("false", "no", "0"), False)

truth = Option("true or false", lambda text: _TRUTHS[text.lower()])
whole = Option("a whole number, 0 or more", int, lambda n: n >= 0)
positive = Option("a whole number above zero", int, lambda n: n > 0)
above_zero = Option(
    f"a number above zero, {_MOST:,} at most", float, lambda x: 0 < x <= _MOST
)
share = Option("a number from 0 to 1", float, lambda x: 0 <= x <= 1)
below_one = Option("a number from 0 to below 1", float, lambda x: 0 <= x < 1)


_WORDS = {"true": True, "false": False, "none": None}


def _literal(text: str) -> Any:
    """Return the number, truth value or None that `text` spells, else `text`."""
    for read in (int, float, _WORDS.__getitem__):
        with suppress(ValueError, KeyError):
            return read(text.lower())
    return text


def _option_of(default: Any) -> Option | None:
    """Return what reads values like a default; None where no text could say them."""
    if isinstance(default, bool):
        return truth
    if isinstance(default, Integral):
        return Option("a whole number", int)
    if isinstance(default, Real):
        return Option("a number", float)
    if isinstance(default, str | None):
        return Option("any value", _literal)
    if isinstance(default, tuple) and default and (one := _option_of(default[0])):
        words = f"{one.words}, or several joined by commas"
        return Option(words, lambda text: tuple(map(one, text.split(","))))
    return None


_OURS = ("random_state", "n_jobs")  # seed and threads: whoever makes a thing sets them


def options_of(thing: Any) -> dict[str, Callable[[str], Any]]:
    """Return the options of an estimator: its simple arguments, but seed and threads.

    Text is read as the kind of the argument's value, unless the class has ``OPTIONS``
    that know better.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> options_of(SVC())["C"]("3")
    3.0
    """
    found = {key: _option_of(one) for key, one in _arguments(thing).items()}
    known = {key: one for key, one in found.items() if one is not None}
    return {**known, **getattr(thing, "OPTIONS", {})}


def as_text(value: Any) -> str:
    """Return an option's value as it is written in a name, numbers to the last digit.

    Examples
    --------
    >>> as_text((0.1234567891, 1.0)), as_text(("whole", "grey")), as_text(True)
    ('0.1234567891,1', 'whole,grey', 'true')
    """
    if isinstance(value, tuple | list):
        return ",".join(map(as_text, value))
    if isinstance(value, Real) and not isinstance(value, bool | Integral):
        return repr(float(value)).removesuffix(".0")
    text = str(value)
    return text.lower() if text in ("True", "False", "None") else text


def with_options(name: str, values: Mapping[str, Any]) -> str:
    """Return a name with options behind it.

    Examples
    --------
    >>> with_options("xgboost", {"max_depth": 4, "subsample": 1.0})
    'xgboost?max_depth=4&subsample=1'
    """
    told = "&".join(f"{key}={as_text(value)}" for key, value in values.items())
    return f"{name}?{told}" if told else name


def spread_sets(names: Iterable[Any]) -> list[Any]:
    """Return names, one with sets in braces as a name for each choice out of them.

    Examples
    --------
    >>> spread_sets(["mlp", "xgboost?max_depth={2,4}"])
    ['mlp', 'xgboost?max_depth=2', 'xgboost?max_depth=4']
    """
    found: list[Any] = []
    for name in names:
        is_text = isinstance(name, str)
        before, _, rest = name.partition("={") if is_text else ("", "", "")
        values, closed, after = rest.partition("}")
        if closed:
            found += spread_sets(f"{before}={one}{after}" for one in values.split(","))
        else:
            found.append(name)
    return found


def _arguments(thing: Any) -> dict[str, Any]:
    """Return the arguments of an estimator and of its parts, but seeds and threads."""
    own = thing.get_params().items()
    return {key: one for key, one in own if key.rpartition("__")[2] not in _OURS}


def _changed(thing: Any, usual: Any) -> dict[str, Any] | None:
    """Return the arguments in which an estimator is not as usual; None if no text is.

    That is, if the text of one does not read as the same again.
    """
    own, known = _arguments(thing), _arguments(usual)
    found = {k: one for k, one in own.items() if repr(one) != repr(known.get(k))}
    read = parse_spec(with_options("", found)).typed_options(options_of(usual))
    return found if own.keys() == known.keys() and read == found else None


@dataclass(frozen=True)
class Spec:
    """A name, taken apart.

    Attributes
    ----------
    text : str
        The name as written, for messages.
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
                words = ((k, getattr(one, "words", "text")) for k, one in known.items())
                told = [f"{name} ({of})" for name, of in words]
                hint = f"{did_you_mean(key, known)}known: {', '.join(told) or 'none'}"
                msg = f"unknown option {key!r} in {self.text!r}: {hint}"
                raise UsageError(msg)
            try:
                values[key] = known[key](text)
            except ValueError as error:
                msg = f"option {key}={text!r} in {self.text!r}: {error}"
                raise UsageError(msg) from error
        return values

    def refuse_rest(self) -> None:
        """Raise UsageError if more than the kind stands before the options."""
        if self.rest:
            msg = f"{self.text!r}: only ?options may follow {self.kind!r}"
            raise UsageError(msg)


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
    head, mark, tail = text.partition("?")
    kind, _, rest = head.partition(":")
    options: dict[str, str] = {}
    for option in tail.split("&") if mark else ():
        key, equals, value = option.partition("=")
        if not equals or not key or not value:
            msg = f"option {option!r} in {text!r}: write it as key=value, joined by '&'"
            raise UsageError(msg)
        if key in options:
            msg = f"option {key!r} is given twice in {text!r}"
            raise UsageError(msg)
        options[key] = value
    return Spec(text=text, kind=kind, rest=rest, options=options)


_Value = TypeVar("_Value")


def option(default: _Value, read: Callable[[str], Any]) -> _Value:
    """Return a field of a dataclass that a name may state, as one of its options.

    Parameters
    ----------
    default : object
    read : callable
        What reads its text: ValueError where it is wrong.
    """
    value: _Value = field(default=default, metadata={"read": read})
    return value


class _Stated:
    """The options of a class: its fields that :func:`option` made, in its order."""

    def __get__(self, made: Any, kind: Any) -> Options:
        known = getattr(kind, "__dataclass_fields__", {})
        order = dict.fromkeys((*kind.ORDER, *known))
        found = {name: known[name].metadata for name in order if name in known}
        return {name: one["read"] for name, one in found.items() if "read" in one}


class Configured:
    """Base of what is no more than the arguments that it was made with.

    ``sklearn.base.clone`` accepts it although it does not inherit from scikit-learn,
    which takes half a second to import.

    Attributes
    ----------
    name : str
        Its spelling without options; the import path of its class where it has none.
    OPTIONS : mapping of str to callable
        Its options, in the order of names, and what reads their text.
    ORDER : sequence of str
        The options that come first in a name.
    """

    OPTIONS: ClassVar[Any] = _Stated()
    ORDER: ClassVar[Sequence[str]] = ()
    name: ClassVar[Any] = ""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments that this was made with."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Change arguments; what was loaded or learned with the old ones is gone."""
        self.__dict__ = type(self)(**self.get_params() | params).__dict__
        return self

    def changed(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults."""
        own, usual = Configured.get_params(self), parameters_of(type(self))
        return {name: one for name, one in own.items() if one != usual[name]}

    @property
    def spec(self) -> str:
        """The spelling that makes this again."""
        changed = self.changed()
        told = {name: changed[name] for name in self.OPTIONS if name in changed}
        return with_options(self.name or path_of(self), told)


def parameters_of(kind: type) -> dict[str, Any]:
    """Return the arguments of a class's ``__init__`` and their defaults."""
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters}


class Registry(dict[str, Entry]):
    """Named things of one kind, imported when asked for.

    Parameters
    ----------
    kind : str
        The word for one of them in messages, for example ``"head"``.
    entries : dict of str to Entry
        The built-in names.

    Examples
    --------
    >>> numbers = Registry("number", {"pi": Entry("math:pi", "circle over diameter")})
    >>> round(numbers.resolve("pi"), 2)
    3.14
    >>> numbers.resolve("math:tau") > 6
    True
    >>> numbers.resolve(42)
    42
    """

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> Entry:
        msg = (
            f"unknown {self.kind} {name!r}: {did_you_mean(str(name), self)}known: "
            f"{', '.join(self)}; or package.module:Name for your own"
        )
        raise UnknownNameError(msg)

    def resolve(self, choice: Any) -> Any:
        """Return the thing that `choice` names, or `choice` itself if no string.

        Options behind the name are left to whoever makes it.

        Raises
        ------
        UnknownNameError
            If `choice` is a string that names nothing.
        MissingLibraryError
            If it needs a library that is not installed.
        """
        if not isinstance(choice, str):
            return choice
        choice = choice.partition("?")[0]
        if choice not in self and ":" in choice:
            return import_path(choice, kind=self.kind)
        self.check(choice)
        return import_path(self[choice].path, kind=self.kind)

    def check(self, name: str) -> None:
        """Refuse a name that is not built in or misses a library; imports nothing.

        Raises
        ------
        UnknownNameError
        MissingLibraryError
        """
        for library in self[name].needs:
            need(library, f"{self.kind} {name!r}")

    def name_of(self, choice: Any) -> str:
        """Return the name of an object or function: :meth:`resolve` gives it back.

        An object is told by its class, and by options where it is not what its class
        makes without arguments, whatever its seed and threads, which whoever makes it
        sets. A name stays as it is.

        Raises
        ------
        UsageError
            If there is no such name: another process could not make it again.

        Examples
        --------
        >>> from sklearn.svm import SVC
        >>> Registry("head", {}).name_of(SVC(C=3))
        'sklearn.svm._classes:SVC?C=3'
        """
        if isinstance(choice, str):
            return choice
        path, options = path_of(choice), None
        with suppress(AttributeError, TypeError, ValueError):
            found = import_path(path)
            options = {} if found is choice else _changed(choice, found())
        if options is None or path.startswith("__main__:"):
            msg = (
                f"{self.kind} {path!r} has no name that run.toml and worker processes "
                "can use: put it, or a function that returns it, into a module, and "
                "give package.module:name"
            )
            raise UsageError(msg)
        name = next((name for name, one in self.items() if one.path == path), path)
        return with_options(name, options)
