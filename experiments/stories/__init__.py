"""Stories: a feature is deleted from a model that writes them, and revived (Jain et al. 2024, App. F)."""
