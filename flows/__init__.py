"""The DAGs: which stage follows which; and the command line that starts them."""
