"""Layer by layer: where a model changes when it is tuned on instructions (Zhao, Ziser & Cohen 2024)."""
