"""Grammars by name, and a generator of grammars whose derivations are all equally deep.

``jain2024`` is the grammar of Jain et al. 2024 (Fig. 14), which is cfg3b of Allen-Zhu & Li 2023
("Physics of Language Models: Part 1") with letters for their numbers. The others are made by our
generator in the manner of that work (levels of a few symbols, two or three children, rules equally
probable); they are not grammars of that paper.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch

from veneer.pcfg.grammar import Grammar
from veneer.tasks import random
from veneer.tasks.errors import InputError

JAIN2024 = """
s -> r q [0.5] | q p [0.5]
p -> m n o [0.5] | n o m [0.5]
q -> n m o [0.5] | m n [0.5]
r -> o m [0.5] | m o n [0.5]
m -> l j [0.5] | j l k [0.5]
n -> k j l [0.5] | l j k [0.5]
o -> l k j [0.5] | k j [0.5]
j -> h i [0.5] | i h [0.5]
k -> h g i [0.5] | g h i [0.5]
l -> i h g [0.5] | h i g [0.5]
g -> d f e [0.5] | f e d [0.5]
h -> e d f [0.5] | d e f [0.5]
i -> e f d [0.5] | f d e [0.5]
d -> 'c' 'a' [0.5] | 'a' 'b' 'c' [0.5]
e -> 'c' 'b' [0.5] | 'c' 'a' 'b' [0.5]
f -> 'c' 'b' 'a' [0.5] | 'b' 'a' [0.5]
"""


def jain2024() -> Grammar:
    """The grammar of Jain et al. 2024, Fig. 14: six levels, terminals a, b, c."""
    return Grammar.from_text(JAIN2024, "jain2024")


def deep() -> Grammar:
    """Deeper than the paper's: seven levels, two rules a symbol, terminals a, b, c."""
    return balanced_random_grammar(7, (2, 3), "abc", seed=0, rules=2, name="deep")


def ambiguous() -> Grammar:
    """More ambiguous than the paper's: six levels, four rules a symbol, terminals a, b, c."""
    return balanced_random_grammar(6, (2, 3), "abc", seed=0, rules=4, name="ambiguous")


GRAMMARS: dict[str, Callable[[], Grammar]] = {"jain2024": jain2024, "deep": deep, "ambiguous": ambiguous}


def read_grammar(name: str, max_length: int | None = None) -> Grammar:
    """A grammar by its name, or from a file in NLTK's notation.

    Args:
        name: of the grammar, or of the file.
        max_length: longest string, in terminals; recursive grammars need it. None: no limit.

    Raises:
        InputError: no such grammar or file, or one that cannot be used.
    """
    if name not in GRAMMARS:
        return Grammar.from_file(name, max_length=max_length)
    found = grammar(name)
    return found if max_length is None else replace(found, max_length=max_length)


def grammar(name: str) -> Grammar:
    """A grammar by its name.

    Raises:
        InputError: an unknown name.
    """
    if name not in GRAMMARS:
        raise InputError("grammar", name, f"one of {', '.join(GRAMMARS)}")
    return GRAMMARS[name]()


def balanced_random_grammar(
    depth: int,
    fan_out: tuple[int, int],
    terminals: str,
    seed: int,
    *,
    symbols: int = 3,
    rules: int = 2,
    name: str | None = None,
) -> Grammar:
    """A grammar in levels, every terminal ``depth`` rules below the start.

    The start and every symbol of the levels below it have ``rules`` equally probable right-hand
    sides, sequences of symbols of the next level, drawn without replacement within a level (Allen-Zhu
    & Li 2023, App. A.1). A pure function of its arguments.

    Args:
        depth: number of levels of rules.
        fan_out: least and greatest number of children of a rule.
        terminals: the letters of the last level.
        seed: chooses the rules.
        symbols: nonterminals per level below the start.
        rules: rules per symbol.
        name: defaults to one made of the arguments.

    Raises:
        InputError: sizes below 1, fewer possible right-hand sides than rules, or rules too few to
            reach every symbol of the next level.
    """
    for field, value in (("depth", depth), ("symbols", symbols), ("rules", rules), ("fan_out", fan_out[0])):
        if value < 1:
            raise InputError(field, value, "1 or more")
    if fan_out[1] < fan_out[0]:
        raise InputError("fan_out", fan_out, "a least and a greatest number of children, in this order")
    if not terminals or len(set(terminals)) != len(terminals):
        raise InputError("terminals", terminals, "one or more different letters")
    levels = [["S"]] + [[f"L{level}N{i}" for i in range(symbols)] for level in range(1, depth)]
    key = random.stream_key(f"grammar/{fan_out}/{symbols}/{rules}/{terminals}", seed, "rules")
    lines = []
    for level, parents in enumerate(levels):
        children = [repr(x) for x in terminals] if level == depth - 1 else levels[level + 1]
        chosen = _right_hand_sides(children, fan_out, len(parents) * rules, random.step_key(key, level))
        for i, parent in enumerate(parents):
            alternatives = (
                f"{' '.join(rhs)} [{1 / rules:.17f}]" for rhs in chosen[i * rules : (i + 1) * rules]
            )
            lines.append(f"{parent} -> {' | '.join(alternatives)}")
    default = f"balanced-{depth}-{fan_out[0]}-{fan_out[1]}-{terminals}-{symbols}-{rules}-{seed}"
    return Grammar.from_text("\n".join(lines), name or default)


def _right_hand_sides(
    children: list[str], fan_out: tuple[int, int], count: int, key: int
) -> list[tuple[str, ...]]:
    """``count`` different sequences of children which together use every child."""
    low, high = fan_out
    possible = [rhs for size in range(low, high + 1) for rhs in product(children, repeat=size)]
    if count > len(possible):
        raise InputError("rules", count, f"at most {len(possible)} right-hand sides in a level", "too many")
    if count * high < len(children):
        raise InputError(
            "rules", count, f"{-(-len(children) // high)} or more in a level", "children stay unused"
        )
    for attempt in range(10_000):
        order = random.shuffled_order(torch.tensor(random.step_key(key, attempt)), 1, len(possible))[0]
        chosen = [possible[i] for i in order[:count].tolist()]
        if {child for rhs in chosen for child in rhs} == set(children):
            return chosen
    raise InputError("rules", count, "more rules", "no draw of rules reached every symbol of the next level")
