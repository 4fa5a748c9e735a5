"""What heads look at, by the roles of tokens: shares of attention on words that matter (Lin 2024, Fig. 5).

Averaging attention maps needs prompts of equal length; shares by role do not, and are comparable across
templates. Roles are given as character ranges and carried to tokens by a tokenizer's offsets.
"""

from collections.abc import Mapping, Sequence

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.tasks.errors import InputError

Ranges = Sequence[tuple[int, int]]
OTHER = "other"


def token_roles(offsets: Ranges, spans: Mapping[str, Ranges]) -> list[str]:
    """The role of each token: that of the first range it overlaps, else "other".

    Args:
        offsets: half-open range of characters of each token, as tokenizers give them (empty if special).
        spans: ranges of characters by role.
    """
    return [
        next(
            (
                role
                for role, ranges in spans.items()
                if any(start < end_range and start_range < end for start_range, end_range in ranges)
            ),
            OTHER,
        )
        for start, end in offsets
    ]


def attention_by_role(
    pattern: Float[Tensor, "batch head query key"],
    roles: Sequence[Sequence[str]],
    query: Int[Tensor, "batch"],
) -> pl.DataFrame:
    """How much of each head's attention, from one position of each prompt, goes to tokens of each role.

    Args:
        pattern: attention of one block; each row of keys sums to 1.
        roles: of every prompt's tokens; positions beyond the list are filling and have no role.
        query: from which position of each prompt, as the last one.

    Returns:
        A row per head and role: head, role; ``share`` of the attention (mean over prompts); ``deviation``
        over prompts; ``expected``, the share if all positions up to the query got the same.

    Raises:
        InputError: roles for another number of prompts, or a query beyond them.
    """
    if len(roles) != len(pattern):
        raise InputError("roles", len(roles), f"a list for each of the {len(pattern)} prompts")
    for own, place in zip(roles, query.tolist(), strict=True):
        if not 0 <= place < len(own):
            raise InputError("query", place, f"0 to {len(own) - 1}, a token of the prompt")
    names = sorted({role for own in roles for role in own})
    member = torch.zeros(len(pattern), pattern.shape[-1], len(names), dtype=torch.float64)
    for row, own in enumerate(roles):
        for place, role in enumerate(own):
            member[row, place, names.index(role)] = 1
    from_query = pattern.double()[torch.arange(len(pattern)), :, query]
    shares = torch.einsum("bhk,bkr->bhr", from_query, member)
    seen = torch.arange(pattern.shape[-1]) <= query[:, None]
    expected = (member * seen[..., None]).sum(1) / (query[:, None] + 1)
    rows = [
        {
            "head": head,
            "role": name,
            "share": float(shares[:, head, i].mean()),
            "deviation": float(shares[:, head, i].std(correction=0)),
            "expected": float(expected[:, i].mean()),
        }
        for head in range(pattern.shape[1])
        for i, name in enumerate(names)
    ]
    return pl.DataFrame(rows)
