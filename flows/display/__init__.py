"""What a run shows while it goes on and when it has ended: in the terminal, and on Prefect's pages."""
