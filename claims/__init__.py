"""The papers' claims, the rule that decides each, and the evidence a run has for it."""
