"""What graphnode costs, beside its peers and plain JAX: `python -m tests.benchmarks`."""
