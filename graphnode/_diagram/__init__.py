"""Pictures of graphs, as Mermaid, DOT and SVG."""
