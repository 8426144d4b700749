"""``ray start`` for one of several nodes that all listen on the loopback interface alone.

Told 127.0.0.1, Ray takes the machine's outward address instead and listens everywhere, unless
RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER is off; with it off, it refuses nodes that join. So it is off in the
environment, for all that the node starts, and the joining itself is allowed in this process. A head starts
neither a server for Ray Client, by which nobody comes, nor the one of a dashboard that is off: they take
seconds.
"""

import sys

from ray._private import ray_constants, services
from ray._private.node import Node
from ray.scripts.scripts import main

if __name__ == "__main__":
    ray_constants.ENABLE_RAY_CLUSTER = True
    services.get_node_ip_address = lambda _address=None: "127.0.0.1"
    Node.start_ray_client_server = lambda _node: None  # type: ignore[method-assign]
    Node.start_api_server = lambda _node, **_options: None  # type: ignore[method-assign]
    sys.argv[1:1] = ["start"]
    main()
