"""Benchmarks and studies: run by hand, their results are in docs/."""
