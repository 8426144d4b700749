"""The DAGs: which stage follows which; and the command line that starts them."""

if __name__ != "advfeat.flows":
    raise ImportError(
        "flows is a part of advfeat now: import advfeat.flows; a deployment that names "
        "flows.… is made anew by: advfeat deploy POOL"
    )
