"""The one exception for bad input: it names the field, the value given and what would be valid."""

MOST = 300  # characters of a value that are shown


class InputError(ValueError):
    """Something the user gave cannot be used.

    Its text is one line: ``field = value: problem; valid: ...``. The command line prints it and
    exits with code 2; nothing else in Veneer does that, so a bug never looks like bad input.

    Args:
        field: name of the argument, option or file at fault.
        value: what was given (shown with ``repr``, a long one shortened).
        valid: what would have been accepted, as a phrase.
        problem: why the value cannot be used, where the valid range alone does not say it.
        frames: where code of the user's own was when it failed, as Python shows it; it follows the line.
    """

    def __init__(self, field: str, value: object, valid: str, problem: str = "", frames: str = "") -> None:
        self.field, self.value, self.valid, self.problem = field, value, valid, problem
        self.frames = frames
        why = f": {problem}" if problem else ""
        super().__init__(f"{field} = {_shown(value)}{why}; valid: {valid}")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str, str]]:
        """Survive pickling between processes (engines send exceptions back)."""
        return type(self), (self.field, self.value, self.valid, self.problem, self.frames)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write a whole number of thousands of digits
        return "a number too long to be written"
    return text if len(text) <= MOST else f"{text[: MOST - 40]} ... {text[-30:]}"
