"""SiameseProjection: a learned map of a vectorizer's vectors, itself a vectorizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from tllboost.errors import ImageError, UsageError
from tllboost.labelled import vectorize_labelled
from tllboost.projections import make_projection
from tllboost.projections.base import Projection
from tllboost.vectorizers import Vectorizer, make_vectorizer
from tllboost.vectorizing import vectorize

__all__ = ["SiameseProjection"]


class SiameseProjection(TransformerMixin, BaseEstimator, Vectorizer):
    """Learn from pairs to map vectors of pictures so that matches come to lie close.

    Fitted on labelled pairs, it turns pictures into vectors, and is a vectorizer like
    any other: ``PairClassifier(SiameseProjection("classic").fit(X, y))``.

    As ever in scikit-learn, ``clone`` gives an unfitted copy. Cross-validation clones,
    so a :class:`~tllboost.classifier.PairClassifier` to be cross-validated takes
    ``PairClassifier(base, projection=loss)``, which fits one on each training side.
    ``sklearn.frozen.FrozenEstimator`` keeps a fitted one fitted; honest figures then
    need pairs that it was not fitted on.

    Parameters
    ----------
    base : str or Vectorizer, default="pocket"
        What turns pictures into the vectors to be mapped.
    loss : str or Projection, default="infonce"
        A name as on the command line (``tllboost list projections``), with options or
        without, or an object, of which a copy is fitted.
    components : int or None, default=None
        Width of the mapped vectors; None leaves it to `loss`.
    depth : int or None, default=None
        Fully connected layers, 0 to 2; None leaves it to `loss`.
    members : int or None, default=None
        Maps side by side, from different starts; None leaves it to `loss`.
    store : path-like or None, default=None
        Folder of the vector store of the base.
    n_negatives : int or None, default=None
        Non-matches drawn for each training match, beside those given. None draws 5
        where `y` has matches only, else none.
    validation_fraction : float, default=0.15
        Share of the matches held out, to choose the epoch.
    device : str, default="auto"
        Where networks run and the map is trained.
    n_jobs : int or None, default=None
        Threads that the map is trained with.
    random_state : int, default=0
        Decides what is held out and drawn, and the chances of training.

    Attributes
    ----------
    base_ : Vectorizer
    projection_ : Projection
        The fitted map.

    Examples
    --------
    >>> import tempfile
    >>> from tllboost.scenes import make_scenes
    >>> folder = make_scenes(tempfile.mkdtemp(), n_scenes=12, n_views=2).parent
    >>> X = [[folder / f"scene_{i:04d}_{v}.jpg" for v in (0, 1)] for i in range(1, 13)]
    >>> siamese = SiameseProjection("pixels?size=8", components=4, device="cpu")
    >>> siamese.fit(X).transform(X[0]).shape
    (2, 4)
    """

    def __init__(
        self,
        base: Any = "pocket",
        loss: str | Projection = "infonce",
        *,
        components: int | None = None,
        depth: int | None = None,
        members: int | None = None,
        store: str | PathLike[str] | None = None,
        n_negatives: int | None = None,
        validation_fraction: float = 0.15,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.base = base
        self.loss = loss
        self.components = components
        self.depth = depth
        self.members = members
        self.store = store
        self.n_negatives = n_negatives
        self.validation_fraction = validation_fraction
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> SiameseProjection:
        """Fit on labelled pairs of pictures.

        Parameters
        ----------
        X : array-like of shape (n_pairs, 2)
            Paths of the left and of the right picture.
        y : array-like of shape (n_pairs,) or None, default=None
            1 for a match, 0 for none; None says that all are matches.

        Raises
        ------
        UsageError
            If an option is wrong.
        ImageError
            If a picture can't be read.
        DataError
            If there are too few pairs to hold a part out, or nothing is learned.
        """
        projection = self._new_projection()
        base = make_vectorizer(self.base, device=self.device)
        data = vectorize_labelled(
            base,
            X,
            y,
            store=self.store,
            n_negatives=self.n_negatives,
            validation_fraction=self.validation_fraction,
            seed=self.random_state,
        )
        self.projection_ = projection.fit(*data)
        self.base_ = base
        self.n_dims_ = self.projection_.transform(data.vectors[:1]).shape[1]
        return self

    def _new_projection(self) -> Projection:
        given = {
            name: getattr(self, name)
            for name in ("components", "depth", "members")
            if getattr(self, name) is not None
        }
        if given and not isinstance(self.loss, str):
            msg = f"loss is an object: set {', '.join(given)} on it"
            raise UsageError(msg)
        loss = self.loss
        if given:
            mark = "&" if "?" in loss.rpartition("/")[2] else "?"
            loss += mark + "&".join(f"{name}={value}" for name, value in given.items())
        projection = make_projection(
            loss, seed=self.random_state, device=self.device, n_threads=self.n_jobs
        )
        if projection is None:
            msg = f"loss={self.loss!r} learns nothing: give one to be learned"
            raise UsageError(msg)
        return projection

    def transform(
        self,
        images: Iterable[str | Path | Image.Image],
        *,
        batch_size: int = 32,
    ) -> NDArray[np.float32]:
        """Return the mapped vectors of pictures: (n_images, n_components) float32.

        Parameters
        ----------
        images : iterable of path or PIL.Image.Image
            The base's vectors of paths are taken from the store where it has them.
        batch_size : int, default=32
            Pictures a forward pass.

        Raises
        ------
        ImageError
            If a file can't be read as a picture.
        UsageError
            If `images` is no list of pictures.
        """
        check_is_fitted(self, "projection_")
        given = _list_of_pictures(images)
        if any(isinstance(image, Image.Image) for image in given):
            return Vectorizer.transform(self, given, batch_size=batch_size)
        result = vectorize(
            self,
            given,
            ids=[str(path) for path in given],
            store=self.store,
            batch_size=batch_size,
        )
        for index, reason in result.failures.items():
            raise ImageError(given[index], reason)
        return result.vectors

    def __getstate__(self) -> dict[str, Any]:
        # A vectorizer leaves out what it loaded; here it is what was learned.
        return self.__dict__.copy()

    @property
    def source(self) -> Vectorizer:
        """The vectorizer whose vectors are mapped.

        Raises
        ------
        UsageError
            If nothing is fitted.
        """
        if not hasattr(self, "projection_"):
            msg = (
                "this SiameseProjection is not fitted, a clone never is: fit it, or "
                f"give PairClassifier({self.base!r}, projection={self.loss!r}), that "
                "fits one on each training side"
            )
            raise UsageError(msg)
        return self.base_

    def map_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the map makes of the base's vectors."""
        return self.projection_.transform(vectors)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return one RGB picture as the base wants it."""
        return self.source.prepare(image)

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """Return mapped vectors (n_images, n_components), float32, of a batch."""
        return self.map_vectors(self.source.forward(batch))

    @property
    def name(self) -> str:
        """What is mapped, and how."""
        projection = self.projection_ if hasattr(self, "projection_") else self.loss
        loss = projection if isinstance(projection, str) else projection.spec
        return f"siamese({make_vectorizer(self.base).label},{loss})"

    @property
    def fingerprint(self) -> str:
        """Tell what the vectors depend on: the base's, and the map's weights."""
        base = self.source.fingerprint
        weights = hashlib.sha256()
        for name, data in sorted(self.projection_.to_members().items()):
            weights.update(name.encode() + data)
        return f"siamese|{self.projection_.spec}|{weights.hexdigest()}|{base}"

    @property
    def n_dims(self) -> int:
        """Width of a mapped vector."""
        _ = self.source  # fitted?
        return self.n_dims_

    @property
    def input_size(self) -> int | None:
        """Short side that decoding may shrink to: that of the base."""
        return self.source.input_size

    @property
    def needs_images(self) -> bool:  # type: ignore[override]
        """Whether the base looks at pictures."""
        return self.source.needs_images


def _list_of_pictures(images: Any) -> list[Any]:
    """Return pictures as a list; refuse one alone, and whatever is none."""
    kinds = (str, PathLike, Image.Image)
    if isinstance(images, kinds):
        msg = f"transform takes a list of pictures, got one: {images!r}; use [it]"
        raise UsageError(msg)
    given = list(images)
    for index, one in enumerate(given):
        if not isinstance(one, kinds):
            msg = f"images[{index}] is {one!r}; it must be a path or a picture"
            raise UsageError(msg)
    return given
