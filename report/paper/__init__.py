"""The counterparts of the papers' figures."""
