"""What a model takes and does, as a table: `gn.summary`."""
