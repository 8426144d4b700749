"""The experiment behind each row of a report, and its fields by their dotted names."""

from collections.abc import Iterator
from typing import Any

from advfeat.errors import DamagedArtifactError, InputError, first_line
from advfeat.planning import Experiment
from advfeat.planning.grid import Point
from advfeat.recipes.shared.own import names_any_content
from advfeat.storage import Manifest


def experiments_of(manifest: Manifest, rows: int) -> list[Experiment]:
    """Return the experiment of each row of a report; raises ``DamagedArtifactError``.

    Raises ``InputError`` if a recipe is of a file that is not at hand, as it was then.
    """
    try:
        if manifest.stage == "report":
            described = manifest.parameters["experiment"]
            if any(map(names_any_content, [*described["recipes"], *described.get("only", {})])):
                raise ValueError("it names a file without its content")
            return [Experiment.model_validate(described)] * rows
        found = [Point.model_validate(point).experiment for point in manifest.parameters["points"]]
    except InputError as error:
        problem = f"cannot be read without its recipe ({error})"
        remedy = "change to the folder that holds the file, as it was then"
        raise InputError("run", manifest.digest[:12], problem, remedy) from None
    except (ValueError, KeyError, TypeError) as error:
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
