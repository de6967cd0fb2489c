"""Work on a Dask cluster: handed out in jobs, done again where a worker is lost."""

from tllboost.cluster.cluster import Cluster
from tllboost.cluster.jobs import Died, Job

__all__ = ["Cluster", "Died", "Job"]
