"""Jobs: what a scheduled refresh is told, read from a TOML file and checked before anything is done."""

from featstore.jobs.job import Gates, HeadJob, Job

__all__ = ["Gates", "HeadJob", "Job"]
