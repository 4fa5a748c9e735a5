"""Benchmark datasets: plan, rows, card, statistics, verification, scores, and suites with names."""
