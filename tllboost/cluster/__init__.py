"""Work on a Dask cluster: handed out in jobs, done again where a worker is lost."""

from tllboost.cluster.cluster import Cluster, Died, Job, refuse_limits

__all__ = ["Cluster", "Died", "Job", "refuse_limits"]
