"""``python -m flows.serve``: offers the main job to a Prefect server, so that its UI can start it.

It polls the server that the environment names and runs flows in processes beside itself, on the Ray
cluster and the store that the environment names.
"""

import os

from advfeat.cluster.services import DEPLOYMENT
from advfeat.experiment_file import load_experiment
from flows.experiment import learning_from_errors

if __name__ == "__main__":
    learning_from_errors.serve(
        name=DEPLOYMENT,
        description="Runs on the cluster of this machine.",
        parameters={
            "experiment": load_experiment("digits", []).model_dump(mode="json"),
            "store": os.environ["ADVFEAT_STORE"],
        },
        pause_on_shutdown=False,  # it has no schedule, and the server may be gone by then
        print_starting_message=False,
    )
