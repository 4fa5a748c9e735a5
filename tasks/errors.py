"""The one exception for bad input: it names the field, the value given and what would be valid."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    Its text is one line: ``field = value: problem; valid: ...``. The command line prints it and
    exits with code 2; nothing else in Veneer does that, so a bug never looks like bad input.

    Args:
        field: name of the argument, option or file at fault.
        value: what was given (shown with ``repr``).
        valid: what would have been accepted, as a phrase.
        problem: why the value cannot be used, where the valid range alone does not say it.
    """

    def __init__(self, field: str, value: object, valid: str, problem: str = "") -> None:
        self.field, self.value, self.valid, self.problem = field, value, valid, problem
        why = f": {problem}" if problem else ""
        super().__init__(f"{field} = {value!r}{why}; valid: {valid}")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str]]:
        """Survive pickling between processes (engines send exceptions back)."""
        return type(self), (self.field, self.value, self.valid, self.problem)
