"""Work on a Dask cluster: handed out in jobs, done again where a worker is lost."""

from tllboost.cluster.cluster import Cluster, refuse_limits
from tllboost.cluster.jobs import Died, Job

__all__ = ["Cluster", "Died", "Job", "refuse_limits"]
