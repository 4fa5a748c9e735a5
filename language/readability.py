"""How hard a text is to read, by two formulas that Zhao, Ziser & Cohen 2024 (Fig. 6) hold against similarity.

Both give a school grade. Syllables are counted as groups of vowels, a silent e left out: no dictionary is
asked, so a text of single words is told roughly.
"""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[A-Za-z0-9]+")
_END = re.compile(r"[.!?]+(?=\s|$)")
_VOWELS = re.compile(r"[aeiouy]+")


def flesch_kincaid(texts: Sequence[str]) -> float:
    """The grade of Kincaid et al. 1975: 0.39 words a sentence + 11.8 syllables a word - 15.59."""
    words, sentences = _words(texts), _sentences(texts)
    return 0.39 * len(words) / sentences + 11.8 * sum(map(syllables, words)) / len(words) - 15.59


def coleman_liau(texts: Sequence[str]) -> float:
    """The index of Coleman & Liau 1975, from letters and sentences for 100 words."""
    words, sentences = _words(texts), _sentences(texts)
    return 5.88 * sum(map(len, words)) / len(words) - 29.6 * sentences / len(words) - 15.8


def syllables(word: str) -> int:
    """About how many syllables a word has, 1 at least."""
    low = word.lower()
    silent = low.endswith("e") and not low.endswith("le") and len(_VOWELS.findall(low)) > 1
    return max(1, len(_VOWELS.findall(low)) - silent)


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in _WORD.findall(text)] or ["a"]


def _sentences(texts: Sequence[str]) -> int:
    return sum(max(1, len(_END.findall(text))) for text in texts) or 1
