"""``advfeat track``: other people's tools are told of a run that ended some time ago."""

from typing import TYPE_CHECKING, Annotated

import typer

from advfeat.flows.command_line.options import DEFAULT_STORE, AsJSON, Run, StoreURI
from advfeat.flows.command_line.output import print_model, standard_output_kept_for_result

if TYPE_CHECKING:
    from advfeat.tracking.targets import Target, Told


def track(
    run: Run,
    to: Annotated[
        str,
        typer.Option(
            envvar="ADVFEAT_TRACK",
            metavar="TOOL:PLACE",
            help="mlflow:URI, wandb:PROJECT or tensorboard:FOLDER",
        ),
    ],
    store: StoreURI = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Log a finished run to MLflow, Weights & Biases or TensorBoard; existing entries stay."""
    from advfeat.flows.command_line.store_commands import readable_store
    from advfeat.tracking.targets import Target

    place = readable_store(store)
    with standard_output_kept_for_result():
        told = Target(to).tell(place, run)
    if as_json:
        print_model(told)
    else:
        print_told(told)


def target_named(named: str | None) -> "Target | None":
    """Look at the tool that a run is to be told to, if one is named; raises ``InputError``."""
    if not named:
        return None
    from advfeat.tracking.targets import Target

    with standard_output_kept_for_result():
        return Target(named)


def print_told(told: "Told") -> None:
    """Print what a tool was told."""
    print(f"{told.target}: {told.new} of {told.rows} rows of {told.title} are new there")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(track)
