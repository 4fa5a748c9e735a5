"""``python -m veneer`` is ``veneer``."""

from veneer.commands.main import main

main()
