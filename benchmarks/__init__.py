"""Benchmarks: ratios against the plain alternative, measured in one run on one machine."""
