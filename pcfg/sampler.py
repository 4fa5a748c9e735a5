"""Strings and windows of strings of a grammar, drawn level by level for a whole fleet at once.

The symbols of all strings of a batch stand in one row, and every round replaces each by the children
of a rule. Symbols with few derivations are not expanded: their whole substring is one draw from the
table of their derivations, exactly as probable as the rules make it, so that a random number gives
some twenty tokens. A node's random bits are a hash of its parent's and of its rank among the
children, so a string is a pure function of its own key, whatever it is drawn together with.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Int
from torch import Tensor

from veneer.pcfg.derivations import Tables, tables
from veneer.pcfg.grammar import Grammar
from veneer.pcfg.moments import length_distribution
from veneer.tasks import random
from veneer.tasks.errors import InputError

LEAST_ACCEPTANCE = 1e-3
BLOCK = {"cpu": 2048}  # strings expanded together: on a CPU the rows should stay in cache
BLOCK_ELSEWHERE = 1 << 17


@dataclass(frozen=True)
class Strings:
    """Whole strings.

    Attributes:
        tokens: indices into the grammar's ``terminals``; -1 behind a string's end.
        lengths: terminals per string.
        rule_uses: how often each of the grammar's productions was used.
    """

    tokens: Int[Tensor, "member batch position"]
    lengths: Int[Tensor, "member batch"]
    rule_uses: Int[Tensor, "member batch rule"]


@dataclass(frozen=True)
class _Drawn:
    """Strings as sequences of pieces (substrings in the table), all in one row.

    Attributes:
        string: which string a piece belongs to, ascending.
        piece: index of the piece in the table.
        begin: where in its string a piece begins.
        lengths: terminals per string; 0 for a string given up as too long.
        used: per round, the strings of the nodes and the rules chosen for them.
    """

    string: Int[Tensor, "piece"]
    piece: Int[Tensor, "piece"]
    begin: Int[Tensor, "piece"]
    lengths: Int[Tensor, "string"]
    used: list[tuple[Tensor, Tensor]]


class Sampler:
    """Draws from a grammar; the numbers are the same on every device.

    Choices between equally probable alternatives, a power of two of them, are exact; the other
    probabilities are kept to 2^-48.

    Args:
        grammar: what to draw from.
        largest_table: symbols with at most this many derivations are drawn as a whole; 1 expands
            everything down to the terminals (slower; the strings are others of the same
            distribution).
    """

    def __init__(self, grammar: Grammar, largest_table: int = 1 << 13) -> None:
        self.grammar = grammar
        self._tables: dict[torch.device, Tables] = {torch.device("cpu"): tables(grammar, largest_table)}
        self._checked: set[int] = set()

    def windows(
        self, keys: Int[Tensor, "member"], batch: int, length: int
    ) -> Int[Tensor, "member batch length"]:
        """Windows of equal length at a uniformly random place in a string (Jain et al. 2024, App. B.2).

        The string is drawn from the grammar conditional on its being at least ``length`` long: a
        shorter one is drawn again under the next key of the same window. (The paper does not say
        what it does with short strings; of its grammar's, 24 % are shorter than 250.)

        Returns:
            Indices into ``grammar.terminals``, int8 (int16 for more than 127 terminals).

        Raises:
            InputError: a length that fewer than one string in a thousand reaches.
        """
        self.check(length)
        window_keys = random.bits(keys, batch).flatten()
        dtype = self._on(keys.device).tokens.dtype
        windows = torch.empty(len(window_keys), length, dtype=dtype, device=keys.device)
        for rows, chosen, drawn in self._draw(window_keys, length):
            places = drawn.lengths - (length - 1)
            offset = random.uniform(random.fold(window_keys[rows], 0), 1).squeeze(-1)
            first = torch.full_like(drawn.lengths, -1)
            first[chosen] = (offset * places[chosen]).to(torch.int64)
            windows.index_copy_(0, rows, self._cut(drawn, first, length, len(rows)).view(-1, length))
        return windows.view(*keys.shape, batch, length)

    def strings(self, keys: Int[Tensor, "member"], batch: int) -> Strings:
        """Whole strings with the rules that made them.

        Raises:
            InputError: a ``max_length`` that fewer than one string in a thousand keeps to.
        """
        self.check(1)
        string_keys = random.bits(keys, batch).flatten()
        count, rules, device = len(string_keys), len(self.grammar.productions), keys.device
        lengths = torch.zeros(count, dtype=torch.int64, device=device)
        uses = torch.zeros(count, rules, dtype=torch.int64, device=device)
        parts = []
        for rows, chosen, drawn in self._draw(string_keys, 1):
            lengths[rows] = drawn.lengths[chosen]
            uses[rows] = self._rule_uses(drawn)[chosen]
            first = torch.full_like(drawn.lengths, -1)
            first[chosen] = 0
            whole = torch.where(first < 0, 0, drawn.lengths)
            parts.append((rows, drawn.lengths[chosen], self._cut(drawn, first, whole, int(whole.sum()))))
        longest = int(lengths.max()) if count else 0
        tokens = torch.full((count, longest), -1, dtype=self._on(device).tokens.dtype, device=device)
        place = torch.arange(longest, device=device)
        for rows, size, text in parts:
            part = tokens[rows]
            part[place < size.unsqueeze(-1)] = text
            tokens[rows] = part
        shape = (*keys.shape, batch)
        return Strings(tokens.view(*shape, longest), lengths.view(shape), uses.view(*shape, rules))

    def _on(self, device: torch.device) -> Tables:
        if device not in self._tables:
            held = self._tables[torch.device("cpu")]
            moved = {f.name: getattr(held, f.name) for f in fields(held)}
            moved = {name: x.to(device) if hasattr(x, "to") else x for name, x in moved.items()}
            self._tables[device] = Tables(**moved)
        return self._tables[device]

    def check(self, length: int) -> None:
        """Refuse windows that would be searched for too long.

        Raises:
            InputError: a length that fewer than one string in a thousand reaches, or a cap too small.
        """
        if length in self._checked:
            return
        if length < 1:
            raise InputError("window", length, "1 or more tokens")
        cap = self.grammar.max_length
        probability = torch.from_numpy(length_distribution(self.grammar, cap or length))
        below = probability.cumsum(0) - probability
        reached = (1.0 if cap is None else probability.sum()) - below  # P(x <= string length <= cap)
        likely = (reached >= LEAST_ACCEPTANCE).nonzero().flatten()
        if len(likely) == 0 or int(likely[-1]) < 1:
            raise InputError(
                "max_length", cap, "a greater length", "fewer than one string in 1,000 keeps to it"
            )
        if length > int(likely[-1]):
            problem = f"fewer than one string of {self.grammar.name} in 1,000 is this long"
            raise InputError("window", length, f"1 to {int(likely[-1])} tokens", problem)
        self._checked.add(length)

    def _draw(
        self, keys: Int[Tensor, "row"], at_least: int
    ) -> Iterator[tuple[Int[Tensor, "found"], Int[Tensor, "found"], _Drawn]]:
        """For every key the first of its strings that is long enough and not too long.

        Yields rows (of ``keys``, ascending), the numbers of their strings among those drawn, and
        what was drawn.
        """
        block = BLOCK.get(keys.device.type, BLOCK_ELSEWHERE)
        pending = torch.arange(len(keys), device=keys.device)
        tried = 0
        while len(pending):
            tries = max(1, min(2 * tried, block // len(pending)))
            failed = []
            for rows in pending.split(block // tries):
                roots = random.bits(keys.index_select(0, rows), tried + tries)[:, tried:]
                drawn = self._expand(roots.flatten())
                fits = (drawn.lengths >= at_least).view(-1, tries)
                found = fits.any(1)
                first = fits.to(torch.uint8).argmax(1) + torch.arange(len(rows), device=rows.device) * tries
                yield rows[found], first[found], drawn
                failed.append(rows[~found])
            pending = torch.cat(failed)
            tried += tries

    def _expand(self, key: Int[Tensor, "string"]) -> _Drawn:
        """One string for every root key."""
        table = self._on(key.device)
        string = torch.arange(len(key), device=key.device, dtype=torch.int32)
        symbol = torch.full_like(string, table.start)
        used = []
        strings, cap = len(key), self.grammar.max_length
        while bool((symbol >= table.whole).any()):
            rule = table.rules.choose(symbol, key)
            used.append((string, rule))
            children = table.children.index_select(0, rule)
            keys = random.bits(key, children.shape[1])
            keys[:, 0] = torch.where(symbol < table.whole, key, keys[:, 0])  # a finished symbol stays
            place = (children.flatten() >= 0).nonzero().squeeze(-1)
            symbol = children.flatten().index_select(0, place)
            key = keys.flatten().index_select(0, place)
            string = string.index_select(0, place // children.shape[1])
            if cap is not None:
                shortest = table.shortest.index_select(0, symbol)
                total = torch.zeros(strings, dtype=torch.int64, device=key.device).index_add_(
                    0, string, shortest
                )
                keep = (total <= cap).index_select(0, string).nonzero().squeeze(-1)
                symbol, key, string = (x.index_select(0, keep) for x in (symbol, key, string))
        piece = table.pieces.choose(symbol, key)
        size = table.size.index_select(0, piece)
        end = size.cumsum(0)
        last = torch.searchsorted(
            string, torch.arange(strings, device=key.device, dtype=torch.int32), right=True
        )
        string_end = torch.nn.functional.pad(end, (1, 0)).index_select(0, last)
        string_begin = torch.nn.functional.pad(string_end, (1, 0))[:-1]
        lengths = string_end - string_begin
        if cap is not None:
            lengths = torch.where(lengths <= cap, lengths, 0)
        begin = end - size - string_begin.index_select(0, string)
        return _Drawn(string, piece, begin, lengths, used)

    def _cut(
        self, drawn: _Drawn, first: Int[Tensor, "string"], length: int | Int[Tensor, "string"], rows: int
    ) -> Int[Tensor, "token"]:
        """The tokens from ``first`` on of every string for which it is not negative, one after another.

        ``length`` is one for all (then ``rows`` is the number of windows) or one for each string
        (then ``rows`` is their sum).
        """
        table = self._on(first.device)
        begin, wanted = drawn.begin, first.index_select(0, drawn.string)
        if isinstance(length, int):
            total, end_wanted = rows * length, wanted + length
        else:
            total, end_wanted = rows, wanted + length.index_select(0, drawn.string)
        end = begin + table.size.index_select(0, drawn.piece)
        low = torch.maximum(begin, wanted)
        count = (torch.minimum(end, end_wanted) - low).clamp_min_(0).masked_fill_(wanted < 0, 0)
        source = table.begin.index_select(0, drawn.piece) + low - begin - (count.cumsum(0) - count)
        source = source.to(torch.int32)
        which = torch.repeat_interleave(count.to(torch.int32), output_size=total)
        place = source.index_select(0, which)
        place += torch.arange(total, device=first.device, dtype=torch.int32)
        return table.tokens.index_select(0, place)

    def _rule_uses(self, drawn: _Drawn) -> Int[Tensor, "string rule"]:
        table = self._on(drawn.lengths.device)
        rules = len(self.grammar.productions)
        uses = torch.zeros(len(drawn.lengths), rules, dtype=torch.int64, device=drawn.lengths.device)
        for string, rule in drawn.used:
            real = (rule < rules).nonzero().squeeze(-1)
            once = torch.ones(len(real), dtype=torch.int64, device=real.device)
            uses.index_put_((string[real].long(), rule[real].long()), once, accumulate=True)
        return uses.index_add_(0, drawn.string, table.piece_uses.index_select(0, drawn.piece).to(torch.int64))
