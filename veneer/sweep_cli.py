"""``veneer sweep``, ``veneer status`` and ``veneer verify`` of a run: options, and what is printed."""
