"""Tokens as they are written on a command line, in one notation for every command.

``a`` is the text a, ``1`` the number, ``0.5`` and ``-2`` are numbers too, and ``'1'`` in quotes of its own is
the text: so are ``' '``, a blank, and ``'a,b'``, one token with a comma. A shell takes one pair of quotes
off, so that it is given ``"'1'"``.
"""

import re
from collections import Counter
from collections.abc import Sequence

from veneer.compiled.capability import Value
from veneer.tasks.errors import InputError

NOTATION = "a text, a number such as 1 or -0.5, or a text in quotes of its own such as \"'1'\" or \"' '\""
_WHOLE, _DECIMAL = re.compile(r"[+-]?[0-9]+"), re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MOST = 2000


def read_token(word: str) -> Value:
    """The token that a word stands for.

    Raises:
        InputError: nothing, or a number that is too long.
    """
    if len(word) >= 3 and word[0] == word[-1] and word[0] in "'\"":
        return word[1:-1]
    if not word.strip():
        raise InputError("token", word, NOTATION)
    if len(word) > 30 and (_WHOLE.fullmatch(word) or _DECIMAL.fullmatch(word)):
        raise InputError("token", word, NOTATION, "a number of more than 30 digits")
    if _WHOLE.fullmatch(word):
        return int(word)
    return float(word) if _DECIMAL.fullmatch(word) else word


def read_vocabulary(words: Sequence[str], length: int) -> list[Value]:
    """The tokens that words stand for, with an estimate of what a program of this size takes.

    Raises:
        InputError: no token, one twice, or more than can be compiled.
    """
    tokens = [read_token(word) for word in words]
    if not tokens or len({(type(token), token) for token in tokens}) != len(tokens):
        raise InputError("vocabulary", list(words), "one or more different tokens")
    size = len(tokens) + length
    if size > MOST:  # weights grow with the square of the width, which is at least this
        need = 12 * size**2 * 4 * 4 / 1e9
        problem = f"the model would be {size:,} wide or more: at least {need:,.1f} GB of weights"
        raise InputError("max_length", length, f"at most {MOST:,} tokens and positions together", problem)
    return tokens


def in_texts(tokens: Sequence[Value]) -> tuple[str, ...]:
    """How tokens stand in the texts of a dataset, one for each; a blank in a token is shown as ``␣``.

    A text that looks like another token, such as ``'1'`` beside the number 1, has its quotes.

    Raises:
        InputError: two that cannot be told apart even so.
    """
    plain = [str(token).replace(" ", "␣") for token in tokens]
    times = Counter(plain)
    shown = tuple(
        f"'{word}'" if isinstance(token, str) and times[word] > 1 else word
        for token, word in zip(tokens, plain, strict=True)
    )
    if alike := [word for word, count in Counter(shown).items() if count > 1]:
        problem = f"two of them are written {alike[0]}"
        raise InputError("vocabulary", list(tokens), "different tokens", problem)
    return shown
