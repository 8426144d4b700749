"""What a job says to Ray of where its workers look for modules."""

from ray.job_config import JobConfig


class OwnModules(JobConfig):
    """A job whose workers do not look into the driver's working folder.

    Ray puts that folder, and the program's, in front of all others: a ``tasks.py`` there would stand in for
    another package's.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True  # as where workers have a folder of their own, uploaded for them

    def __reduce__(self) -> tuple[type["OwnModules"], tuple[()]]:
        return OwnModules, ()  # a flow goes to workers with its task runner, but they start no job
