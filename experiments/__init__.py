"""Named experiments, the cells they consist of, and the folder that keeps a run."""
