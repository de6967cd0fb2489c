"""The network behind a vectorizer, cut in two: the stages that stay, and the last ones.

Both halves are the network's own forward pass. The frozen half stops where the first
trained stage would begin, and hands out the map that arrives there. In the trained half
every part before that stage lets its input through unchanged.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tllboost.errors import UsageError, WeightsError
from tllboost.vectorizers import Vectorizer
from tllboost.vectorizers.clip import ClipVectorizer
from tllboost.vectorizers.timm import TimmVectorizer
from tllboost.vectorizers.torch import averaged, module
from tllboost.vectorizers.weights import read_weights

# What of a vectorizer counts for the global vector of an image as it is.
_GLOBAL = ("arch", "tag", "file", "size", "fit", "trim", "offline")


def global_vectorizer(
    vectorizer: Vectorizer, device: str
) -> TimmVectorizer | ClipVectorizer:
    """Return a vectorizer of the same network's global vectors, with nothing loaded.

    Its network is a copy of its own, so that training changes no other.

    Raises
    ------
    UsageError
        If `vectorizer` is no single network of timm or open_clip.
    """
    for kind in (TimmVectorizer, ClipVectorizer):
        if isinstance(vectorizer, kind):
            given = vectorizer.get_params()
            kept = {name: given[name] for name in _GLOBAL if name in given}
            return kind(**kept, device=device)
    msg = (
        f"{vectorizer.label!r} can't be fine-tuned: give one network, timm:NAME@FILE "
        "or clip:ARCH:TAG@FILE"
    )
    raise UsageError(msg)


def with_file(vectorizer: Vectorizer, file: Path) -> Vectorizer:
    """Return the same kind of vectorizer, all its options kept, with other weights."""
    return type(vectorizer)(**vectorizer.get_params() | {"file": str(file)})


def all_tensors(
    vectorizer: TimmVectorizer | ClipVectorizer, network: Any
) -> dict[str, Any]:
    """Return what a file must hold for the library to load it strictly.

    For timm that is `network`; of open_clip the image tower is taken from `network`
    and all else, the text tower foremost, from the file that it was loaded from.

    Raises
    ------
    WeightsError
        If the tensors of that file have names that open_clip translates.
    """
    tower = {name: value.cpu() for name, value in network.state_dict().items()}
    if isinstance(vectorizer, TimmVectorizer):
        return {name: value.contiguous() for name, value in tower.items()}
    weights = vectorizer.weights_file
    whole = read_weights(weights, what=vectorizer.name)
    counters = {name for name in tower if name.endswith("num_batches_tracked")}
    if foreign := sorted(set(tower) - set(whole) - counters):
        msg = (
            f"{vectorizer.name}: the tensors of {str(weights)!r} are not named as in "
            f"open_clip (no {foreign[0]!r}); save it by open_clip and give that file"
        )
        raise WeightsError(msg)
    return {name: value.contiguous() for name, value in (whole | tower).items()}


# What holds stages, or holds what holds them, in the networks of timm and open_clip.
_CONTAINERS = {"blocks", "stages", "layers", "features", "resblocks"}
_WRAPPERS = {"visual", "trunk", "transformer"}
_STAGE = re.compile(
    r"(?:.*\.)?(?:(?:blocks|stages|layers|features|resblocks)\.\d+"
    r"|layer\d+|block\d+|s\d+|Mixed_\w+|features\.denseblock\d+)"
)
# Steps between patches and the first block that are methods, not modules.
_METHODS = ("_pos_embed", "_embeds")


class CutNetwork:
    """The two halves of a network.

    Attributes
    ----------
    whole : torch.nn.Module
        As it was given, its last stages trainable, all of it in evaluation mode: the
        statistics of batch normalisation stay those of the first training.
    first : str
        Name of the first trained stage.
    trained : dict of str to torch.nn.Parameter
        What is trained, by name.
    n_dims : int
        Width of a vector, once the halves were tried.
    """

    def __init__(self, network: Any, first: str, units: list[str]) -> None:
        self.whole = network.eval()
        self.first = first
        self.n_dims = 0
        network.requires_grad_(False)
        for name in units[units.index(first) :]:
            network.get_submodule(name).requires_grad_(True)
        self.trained = {
            name: one for name, one in network.named_parameters() if one.requires_grad
        }
        self._tail = _tail(network, units[: units.index(first)])

    def head(self, pixels: Any) -> Any:
        """Return the map that the first trained stage receives."""
        import torch

        stage = self.whole.get_submodule(self.first)
        handle = stage.register_forward_pre_hook(_stop)
        try:
            with torch.no_grad():
                self.whole(pixels)
        except _Arrived as arrived:
            return arrived.args[0]
        finally:
            handle.remove()

    def tail(self, maps: Any) -> Any:
        """Return the vectors (n_images, n_dims) that the last stages make of maps."""
        return averaged(self._tail(maps))


def cut(network: Any, n_stages: int, *, what: str, size: tuple[int, int]) -> CutNetwork:
    """Cut a network before its last `n_stages` stages.

    Parameters
    ----------
    network : torch.nn.Module
        Of timm or open_clip, images in, vectors out.
    n_stages : int
        How many stages to train.
    what : str
        The vectorizer, for messages.
    size : (int, int)
        Height and width of an image.

    Raises
    ------
    UsageError
        If it has no such stages, or doing one half after the other is not the whole.
    """
    import torch

    stages = stage_names(network)
    if not stages:
        msg = (
            f"{what}: a {type(network).__name__} has no known stages; only networks "
            "with parts called blocks, stages, layers or features can be fine-tuned"
        )
        raise UsageError(msg)
    if not 1 <= n_stages < len(stages):
        msg = (
            f"n_stages={n_stages!r}: {what} has {len(stages)} stages; train between 1 "
            f"and {len(stages) - 1} of them"
        )
        raise UsageError(msg)
    halves = CutNetwork(network, stages[-n_stages], list(_units(network)))
    # The halves must be the whole, on noise.
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(network.parameters()).device)
    try:
        with torch.no_grad():
            vectors = halves.tail(halves.head(noise))
            whole = averaged(network(noise))
        good = torch.allclose(vectors, whole, rtol=1e-3, atol=1e-4)
    except Exception:  # whatever a forward pass raises that is not a chain of parts
        good = False
    if not good:
        msg = (
            f"{what}: a {type(network).__name__} can't be cut before "
            f"{halves.first!r}; another number of stages, or another network, may do"
        )
        raise UsageError(msg)
    halves.n_dims = vectors.shape[1]
    return halves


def stage_names(network: Any) -> list[str]:
    """Return the names of a network's stages, in the order of its forward pass."""
    return [
        name
        for name in _units(network)
        if _STAGE.fullmatch(name)
        and any(one.ndim > 1 for one in network.get_submodule(name).parameters())
    ]


def _units(module: Any, prefix: str = "") -> Iterator[str]:
    """Yield the parts of a network, the insides of containers one by one."""
    for name, child in module.named_children():
        inner = name in _CONTAINERS | _WRAPPERS and any(True for _ in child.children())
        if inner:
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield prefix + name


class _Arrived(Exception):
    """The forward pass is where it was to stop, with this map."""


def _stop(module: Any, inputs: tuple[Any, ...]) -> None:
    raise _Arrived(inputs[0])


def _tail(network: Any, frozen: list[str]) -> Any:
    """Return a network whose `frozen` parts are left out; parameters are shared."""
    through = module(lambda _, x, *__, **___: x)
    shared = {id(one): one for one in [*network.parameters(), *network.buffers()]}
    tail = copy.deepcopy(network, shared)
    for name in frozen:
        parent, _, child = name.rpartition(".")
        setattr(tail.get_submodule(parent), child, through)
    for part in tail.modules():
        for method in _METHODS:
            if hasattr(part, method):
                setattr(part, method, through.forward)
    return tail
