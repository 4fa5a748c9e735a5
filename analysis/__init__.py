"""What fine-tuning left of a capability: pruning, grafting, probing, maps, statistics, verdict."""
