"""The DAGs: which stage follows which; and the command line that starts them."""

if __name__ != "advfeat.flows":
    raise ImportError(
        "flows is now a part of advfeat: import advfeat.flows; to renew a deployment that "
        "names flows.…: advfeat deploy POOL"
    )
