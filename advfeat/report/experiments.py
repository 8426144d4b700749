"""The experiment behind each row of a report, and its fields by their dotted names."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from advfeat.errors import DamagedArtifactError, first_line
from advfeat.planning import Experiment
from advfeat.planning.grid import Point
from advfeat.storage import Manifest


def experiments_of(manifest: Manifest, rows: int) -> list[Experiment]:
    """Return the experiment of each row of a report; raises ``DamagedArtifactError``."""
    try:
        if manifest.stage == "report":
            return [Experiment.model_validate(manifest.parameters["experiment"])] * rows
        found = [Point.model_validate(point).experiment for point in manifest.parameters["points"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise DamagedArtifactError(
            f"the experiments of report {manifest.digest[:12]} cannot be read ({first_line(error)})"
        ) from None
    if len(found) != rows:
        raise DamagedArtifactError(
            f"report {manifest.digest[:12]} has {rows} rows of {len(found)} experiments"
        )
    return found


def leaves(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested fields by their names, dots between the parts."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
