"""What a store holds: runs, artifacts and data sets as tables; networks and rows by their digests."""
