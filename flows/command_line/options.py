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
    typer.Option("--stage-timeout", metavar="SECONDS", min=1, help="give up a stage after this time"),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        envvar="ADVFEAT_TRACK",
        metavar="TOOL:PLACE",
        help="tell of the finished run: mlflow:URI, wandb:PROJECT or tensorboard:FOLDER",
    ),
]
Note = Annotated[
    str | None,
    typer.Option("--note", metavar="TEXT", help="what you say of the run, for `advfeat runs`"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print the result and problems alone")]
Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="digest, or enough of its start")]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="start of a run's id, which the Prefect UI shows, or of a report's digest"
    ),
]
