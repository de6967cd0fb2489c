"""One thread a matrix product: the same vectors, and all is as before afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from conftest import write_image
from threadpoolctl import threadpool_info, threadpool_limits

from tllboost.vectorizers import make_vectorizer
from tllboost.vectorizers.base import one_blas_thread
from tllboost.vectorizing import vectorize


def threads_of_numpy() -> set[int]:
    return {
        one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"
    }


def fail() -> None:
    with one_blas_thread():
        assert threads_of_numpy() == {1}
        msg = "no image"
        raise ValueError(msg)


def test_all_is_as_before_even_if_what_was_done_failed() -> None:
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ValueError, match="no image"):
            fail()
        assert threads_of_numpy() == {2}


@pytest.mark.parametrize("prefix", ["libopenblas", "mkl_rt", "libblis", "libblas"])
def test_numpy_is_held_to_one_thread_whatever_its_library_is_called(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As conda's and Debian's numpy have it; pip's is called libscipy_openblas."""

    class Renamed(threadpoolctl.ThreadpoolController):
        def __init__(self) -> None:
            super().__init__()
            for one in self.lib_controllers:
                if one.user_api == "blas":
                    one.prefix = prefix

    with threadpool_limits(2, user_api="blas"):
        monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Renamed)
        with one_blas_thread():
            monkeypatch.undo()
            assert threads_of_numpy() == {1}
        assert threads_of_numpy() == {2}


def test_a_vector_of_classic_depends_on_no_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_image(tmp_path / f"{i}.png", seed=i) for i in range(12)]
    classic = make_vectorizer("classic?views=whole,centre")
    expected = vectorize(classic, paths).vectors
    for n_threads in (1, 2):
        monkeypatch.setenv("TLLBOOST_CORES", str(n_threads))
        with threadpool_limits(n_threads, user_api="blas"):
            np.testing.assert_array_equal(classic.transform(paths), expected)
            found = vectorize(classic, paths).vectors
            np.testing.assert_array_equal(found, expected)
