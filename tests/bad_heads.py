"""Heads, and a projection, that do what they must not: see test_faults_grid.py."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any, Self

import numpy as np
from sklearn.naive_bayes import GaussianNB

from tllboost.projections.base import Projection


class HangsInC(GaussianNB):
    """Never comes back from C code, and lets no other thread run."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # PyDLL keeps Python's lock while it calls, and sleeping costs nobody's cores.
        if os.name == "nt":
            return ctypes.PyDLL("kernel32").Sleep(-1)  # without end
        while True:
            ctypes.PyDLL(None).sleep(1000)


class Sleeps(GaussianNB):
    """Says that it has begun, to whoever reads the output, and has no end."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        os.write(1, b"asleep\n")
        time.sleep(1000)
        return self


class Slow(GaussianNB):
    """Takes longer than two looks at what runs, and is well else."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        time.sleep(1.2)
        return super().fit(X, y, sample_weight)


class TakesMemory(GaussianNB):
    """Takes more and more memory, and uses it."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        taken = []
        while True:
            taken.append(np.ones(4_000_000))
            time.sleep(0.01)


class Dies(GaussianNB):
    """Ends its process at once, as a bug in C code does."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        if hasattr(signal, "SIGKILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.string_at(0)
        return self


class DiesOnce(GaussianNB):
    """Dies the first time in a folder, as where memory did not do for two at once."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        try:
            with open("died", "x"):
                pass
        except FileExistsError:
            return super().fit(X, y)
        os._exit(9)


class Refuses(GaussianNB):
    """Raises, and says so in words that a page must not take for its own."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        msg = "<b>no</b> </script>"
        raise ValueError(msg)


class Endless(Projection):
    """A projection that never ends its training."""

    def fit(self, vectors: Any, train: Any, validation: Any) -> Self:
        time.sleep(1000)
        return self
