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

from advfeat.cluster.services import DEPLOYMENT
from flows.deployments import grids, main_job

if __name__ == "__main__":
    store = os.environ["ADVFEAT_STORE"]
    serve(
        main_job(DEPLOYMENT, store),
        *grids(DEPLOYMENT, store),
        pause_on_shutdown=False,  # they have no schedules, and the server may be gone by then
        print_starting_message=False,
    )
