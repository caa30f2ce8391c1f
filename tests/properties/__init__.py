"""Properties: what holds for every graph, compared with a reference that shares no code with the package."""
