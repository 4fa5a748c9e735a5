"""Small text tasks with exact answers, in clusters, for multi-task instruction tuning."""
