"""``python -m veneer`` is ``veneer``."""

from veneer.cli import main

main()
