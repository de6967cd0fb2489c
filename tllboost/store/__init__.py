"""The vector store: what was vectorized once is never vectorized again.

A folder with an SQLite index and one append-only file of float32 rows a fingerprint:

    index.sqlite          spaces (one a fingerprint), rows (key -> position), files
    <hash>-<random>.f32   the rows of one space, one after the other, little endian

A row exists once the index says so. A batch is appended, flushed and synced, and then
committed; a kill between the two leaves a tail that is cut off before the next append.
`BEGIN IMMEDIATE` is the lock between processes. Only what no index row points at is
ever overwritten, and compaction writes a new file: readers keep what they have mapped.
"""

from tllboost.store.store import VectorStore, default_store

__all__ = ["VectorStore", "default_store"]
