"""What is asked for -> the DAG of unique stages: files and forms, grids, specs, plans."""

from advfeat.planning.changed import changed_settings
from advfeat.planning.experiment import Experiment, RecipeName
from advfeat.planning.experiment_file import load_experiment, load_reproduction
from advfeat.planning.forms import Grid
from advfeat.planning.grid import Point, load_grid, points, title_of
from advfeat.planning.packaged import preset_names, preset_summaries, reproduction_names
from advfeat.planning.plan import (
    GridPlan,
    Outlook,
    Plan,
    build_grid_plan,
    build_plan,
    grid_report,
    outlook,
    plan_of_grid,
    with_reasons,
)

__all__ = [
    "Experiment",
    "Grid",
    "GridPlan",
    "Outlook",
    "Plan",
    "Point",
    "RecipeName",
    "build_grid_plan",
    "build_plan",
    "changed_settings",
    "grid_report",
    "load_experiment",
    "load_grid",
    "load_reproduction",
    "outlook",
    "plan_of_grid",
    "points",
    "preset_names",
    "preset_summaries",
    "reproduction_names",
    "title_of",
    "with_reasons",
]
