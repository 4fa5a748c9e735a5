"""What is done to a capability: recipes, the fleet trainer, protocols, sweeps and their engines."""
