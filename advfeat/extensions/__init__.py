"""Code of the user's own: functions in files and modules, named where a built-in name could stand.

Where a run is planned a function is read, tried, and named by its content too; under that name its text goes
to the workers with the run. Nothing that lies in a store is ever run as code.
"""

from advfeat.extensions.functions import OwnFunction, provide, read_function

__all__ = ["OwnFunction", "provide", "read_function"]
