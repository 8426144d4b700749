"""A scheduled check: the main job's accuracies stay where they were, or the run fails."""

from prefect import State, flow
from pydantic import Field

from advfeat.errors import FigureOutsideError
from advfeat.flows.endings import ended
from advfeat.flows.experiment import learning_from_errors
from advfeat.flows.result import RunResult
from advfeat.flows.walk.ray_cluster import configured_runner
from advfeat.planning import Experiment, RecipeName, load_experiment
from advfeat.spec import Spec


class Expected(Spec):
    """Where the mean test accuracy of a recipe must lie."""

    recipe: RecipeName = Field(description="one of the experiment's recipes")
    low: float = Field(ge=0, le=1, description="least mean test accuracy, as a fraction")
    high: float = Field(ge=0, le=1, description="greatest mean test accuracy, as a fraction")


DIGITS = (
    Expected(recipe="clean", low=0.97, high=1.0),
    Expected(recipe="d_rand", low=0.90, high=1.0),
    Expected(recipe="d_det", low=0.50, high=0.90),
    Expected(recipe="mislabeled", low=0.20, high=0.55),
    Expected(recipe="shuffled", low=0.0, high=0.18),
)
"""For the preset digits: the intervals of its table, widened by what other processors' rounding moves."""


@flow(name="regression", task_runner=configured_runner())
def regression(
    store: str, experiment: Experiment | None = None, expected: tuple[Expected, ...] = DIGITS
) -> RunResult | State[RunResult]:
    """Run the main job and fail if a figure left its interval.

    Where nothing changed, this is one pass over the cache.

    Args:
        store: Folder or fsspec URI of the store.
        experiment: What is run; the preset digits if unset.
        expected: Where the mean accuracy of each recipe must lie.

    """
    return ended(lambda: _checked(store, experiment or load_experiment("digits"), expected))


def _checked(store: str, experiment: Experiment, expected: tuple[Expected, ...]) -> RunResult:
    result = learning_from_errors(experiment, store)
    assert isinstance(result, RunResult)
    accuracy = {row.recipe: row.test_accuracy for row in result.rows}
    outside = [
        f"{figure.recipe}: {accuracy[figure.recipe]:.3f} is not in {figure.low:.3f} to {figure.high:.3f}"
        for figure in expected
        if figure.recipe in accuracy and not figure.low <= accuracy[figure.recipe] <= figure.high
    ]
    if outside:
        raise FigureOutsideError("; ".join(outside))
    return result
