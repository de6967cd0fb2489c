"""Work on a Dask cluster: handed out in jobs, done again where a worker is lost."""

from tllboost.cluster.cluster import Cluster

__all__ = ["Cluster"]
