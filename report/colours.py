"""Colours with fixed roles: the same thing has the same colour in the page, in figures and in notebooks.

They are Okabe & Ito's, which people with colour vision deficiencies can tell apart. No role rests on
colour alone: lines also differ in dash and symbol, verdicts in sign, so that a grey print says the same.
"""

from collections.abc import Sequence

ROLES = {
    "old": "#0072B2",  # the old task, O_PT
    "new": "#D55E00",  # the new task, O_FT
    "before": "#8A8A8A",
    "after": "#E69F00",  # fine-tuning
    "revived": "#009E73",  # after retraining on the old task
    "scratch": "#A6A6A6",  # controls that started from random weights
    "scratch-new": "#595959",  # the same, after the new task
}
_SHARES = ("#9BE0C7", "#5CC7A2", "#2FAE86", "#009E73", "#007A58", "#00583F", "#003D2B")
"""Shortcut shares among retrained models: the revived role's green from light to dark."""


def share_colour(shares: Sequence[float], share: float) -> str:
    """The colour of a shortcut share (C_Tr) among those of a run, from light to dark."""
    if len(shares) < 2:
        return ROLES["revived"]
    place = list(shares).index(share) / (len(shares) - 1)
    return _SHARES[round(place * (len(_SHARES) - 1))]
