"""Tokens per second of the grammar sampler on one thread, against NLTK's productions in plain Python."""

import random as python_random
import time
from collections.abc import Callable

import torch
from nltk.grammar import Nonterminal, ProbabilisticProduction

from veneer.pcfg.grammar import Grammar
from veneer.pcfg.grammars import jain2024
from veneer.pcfg.sampler import Sampler
from veneer.tasks import random

WINDOW = 250
WINDOWS = 8192
STRINGS = 500
REPEATS = 5


class NltkSampler:
    """What one writes with NLTK: look up the productions of the leftmost symbol and choose one."""

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self.pcfg = grammar.pcfg
        self.choose = python_random.Random(seed)

    def string(self) -> tuple[list[str], list[ProbabilisticProduction]]:
        """A string and the productions that made it."""
        tokens, used, stack = [], [], [self.pcfg.start()]
        while stack:
            symbol = stack.pop()
            if not isinstance(symbol, Nonterminal):
                tokens.append(symbol)
                continue
            rules = list(self.pcfg.productions(lhs=symbol))
            rule = self.choose.choices(rules, [rule.prob() for rule in rules])[0]
            used.append(rule)
            stack.extend(reversed(rule.rhs()))
        return tokens, used


def tokens_per_second(draw: Callable[[], int]) -> float:
    """Per second of processor time, the best of several runs of a function that says how many it made."""
    draw()
    rates = []
    for _ in range(REPEATS):
        begin = time.process_time()
        rates.append(draw() / (time.process_time() - begin))
    return max(rates)


def rows() -> list[dict]:
    """Both samplers on the grammar of Jain et al. 2024, measured in this run.

    Ours counts the tokens of windows handed out; those of strings too short or outside the window are
    made but not counted. NLTK's counts every token of whole strings.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        grammar = jain2024()
        ours, plain = Sampler(grammar), NltkSampler(grammar, seed=0)
        keys = torch.tensor([random.stream_key("benchmark", 0, "windows")])
        fast = tokens_per_second(lambda: ours.windows(keys, WINDOWS, WINDOW).numel())
        slow = tokens_per_second(lambda: sum(len(plain.string()[0]) for _ in range(STRINGS)))
    finally:
        torch.set_num_threads(threads)
    return [
        {
            "benchmark": f"{grammar.name}, windows of {WINDOW}, one thread",
            "grammar sampler, million tokens/s": fast / 1e6,
            "NLTK productions in plain Python, million tokens/s": slow / 1e6,
            "ratio": fast / slow,
        }
    ]
