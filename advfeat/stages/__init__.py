"""What each kind of stage computes: read artifacts from the store, write one, know no neighbour."""
