"""Attention that was planted on a role is found there, whatever the lengths of the prompts."""

import pytest
import torch

from veneer.analysis.token_roles import attention_by_role, token_roles
from veneer.tasks.errors import InputError

ROLES = [["other", "context", "number", "other"], ["context", "other", "number", "number", "other"]]


def test_tokens_take_the_role_of_what_they_overlap() -> None:
    text = "Judge motion: 62"
    spans = {"context": [(6, 12)], "number": [(14, 16)]}
    offsets = [(0, 0), (0, 5), (5, 9), (9, 12), (12, 13), (13, 15), (15, 16)]
    assert [text[a:b] for a, b in offsets][2] == " mot"
    assert token_roles(offsets, spans) == [
        "other",
        "other",
        "context",
        "context",
        "other",
        "number",
        "number",
    ]


def test_planted_attention_is_found() -> None:
    pattern = torch.zeros(2, 2, 5, 5)
    pattern[0, 0, 3, 1] = pattern[1, 0, 4, 0] = 1  # head 0 looks at the context
    pattern[0, 1, 3, :4] = 1 / 4
    pattern[1, 1, 4, :] = 1 / 5  # head 1 looks everywhere
    table = attention_by_role(pattern, ROLES, torch.tensor([3, 4]))
    share = {(row["head"], row["role"]): row for row in table.iter_rows(named=True)}
    assert share[0, "context"]["share"] == 1
    assert share[0, "number"]["share"] == 0
    for role in ("context", "number", "other"):
        assert share[1, role]["share"] == pytest.approx(share[1, role]["expected"])
    assert share[1, "number"]["expected"] == pytest.approx((1 / 4 + 2 / 5) / 2)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="query"):
        attention_by_role(torch.zeros(2, 1, 5, 5), ROLES, torch.tensor([4, 4]))
    with pytest.raises(InputError, match="roles"):
        attention_by_role(torch.zeros(1, 1, 5, 5), ROLES, torch.tensor([3]))
