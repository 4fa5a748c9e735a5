"""Capabilities that are learned: grammar, sampler, sample layout, task families, pretraining recipe."""
