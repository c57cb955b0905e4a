"""How one model is run fastest on this machine: measured side by side, and kept on request."""

from featstore.tuning.run import bench
from featstore.tuning.ways import Asked

__all__ = ["Asked", "bench"]
