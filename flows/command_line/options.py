"""Arguments and options that several commands share."""

from typing import Annotated

import typer

DEFAULT_STORE = "./.advfeat/store"
Source = Annotated[str, typer.Argument(metavar="PRESET | FILE.yaml", help="experiment to run")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="change a field, such as attack.eps=1.0"),
]
StoreURI = Annotated[
    str, typer.Option("--store", envvar="ADVFEAT_STORE", help="folder or fsspec URI of the store")
]
AsJSON = Annotated[bool, typer.Option("--json", help="print one JSON value on standard output")]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", envvar="RAY_ADDRESS", metavar="HOST:PORT", help="run on this Ray cluster"),
]
StageTimeout = Annotated[
    float | None,
    typer.Option("--stage-timeout", metavar="SECONDS", min=1, help="fail a stage after this time"),
]
GPUsPerStage = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-stage",
        metavar="SHARE",
        help="how much of a GPU a stage asks for, up to 1; a whole one, if there are any, if unset",
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        envvar="ADVFEAT_TRACK",
        metavar="TOOL:PLACE",
        help="log the finished run to mlflow:URI, wandb:PROJECT or tensorboard:FOLDER",
    ),
]
Note = Annotated[
    str | None,
    typer.Option("--note", metavar="TEXT", help="a note about the run, shown by `advfeat runs`"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print only the result and problems")]
Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="digest, or its first digits")]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="first digits of a run's id (see the Prefect UI) or of a report's digest"
    ),
]
