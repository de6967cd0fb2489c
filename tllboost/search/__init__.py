"""Look for a picture among very many whose vectors are known.

A :class:`VectorIndex` holds vectors in memory or maps a file of them; :func:`search`
finds the best of them for one query, by any fitted classifier.
"""

from tllboost.search.index import VectorIndex
from tllboost.search.nearest import Hit, search
from tllboost.search.shortlist import best_rows, rank_rows

__all__ = ["Hit", "VectorIndex", "best_rows", "rank_rows", "search"]
