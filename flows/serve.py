"""``python -m flows.serve``: offers the main job and every recipe to a Prefect server's user interface.

It polls the server that the environment names and runs flows in processes beside itself, on the Ray
cluster and the store that the environment names.
"""

import os

from advfeat.local import local_ray_arguments

os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "2")  # seconds until a submitted run is seen
if not os.environ.get("RAY_ADDRESS"):
    local_ray_arguments()  # the runs inherit its token, which must be there before Ray is imported

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from advfeat.cluster.services import DEPLOYMENT
from advfeat.experiment_file import load_experiment
from flows.experiment import learning_from_errors
from flows.recipes import FLOWS

if __name__ == "__main__":
    store = os.environ["ADVFEAT_STORE"]
    experiment = load_experiment("digits", []).model_dump(mode="json")
    main_job = RunnerDeployment.from_flow(
        learning_from_errors,
        name=DEPLOYMENT,
        description="All recipes of one experiment, on the cluster of this machine.",
        parameters={"experiment": experiment, "store": store},
        tags=["advfeat"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    grids = [
        RunnerDeployment.from_flow(
            flow,
            name=DEPLOYMENT,
            description=f"{flow.description} Grids, on the cluster of this machine.",
            parameters={"store": store},
            tags=["advfeat", recipe],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for recipe, flow in FLOWS.items()
    ]
    serve(
        main_job,
        *grids,
        pause_on_shutdown=False,  # they have no schedules, and the server may be gone by then
        print_starting_message=False,
    )
