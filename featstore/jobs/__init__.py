"""Jobs: what a scheduled refresh is told, read from a TOML file and checked before anything is done."""

from featstore.jobs.job import TUNED, Gates, HeadJob, Job

__all__ = ["TUNED", "Gates", "HeadJob", "Job"]
