"""Colours with fixed roles: the same thing has the same colour in page, terminal, figures and notebooks.

Those of lines are Okabe & Ito's, which people with colour vision deficiencies can tell apart. No role rests
on colour alone: lines also differ in dash and symbol, verdicts in sign and word, so that a grey print says
the same. The page's style sheet and scripts have no colours of their own: they get these.
"""

from collections.abc import Mapping, Sequence

ROLES = {
    "old": "#0072B2",  # the old task, O_PT
    "new": "#D55E00",  # the new task, O_FT
    "before": "#8A8A8A",
    "after": "#E69F00",  # fine-tuning
    "revived": "#009E73",  # after retraining on the old task
    "scratch": "#A6A6A6",  # controls that started from random weights
    "scratch-new": "#595959",  # the same, after the new task
    "guess": "#888888",  # always the commonest answer
    "threshold": "#777777",  # what the verdict asks for
    "diverged": "#CC79A7",
    "other": "#8C6BB1",  # what has no role, such as a further task token
    "grid": "#DDDDDD",
    "least": "#F2EFFA",  # ends of a scale on which darker is more
    "most": "#3F007D",
    "middle": "#F7F7F7",  # of a scale from the new task's colour to the old one's
}
NIGHT = {
    ROLES["old"]: "#56B4E9",
    ROLES["new"]: "#F0904D",
    ROLES["before"]: "#9AA3AD",
    ROLES["after"]: "#F0B43C",
    ROLES["revived"]: "#2FC596",
    ROLES["scratch"]: "#7D8791",
    ROLES["scratch-new"]: "#C3CAD2",
    ROLES["threshold"]: "#9AA3AD",
    ROLES["other"]: "#B79BDB",
    ROLES["grid"]: "#343B44",
    ROLES["middle"]: "#23282F",
}
"""What colours of figures become on a dark page; the others stay."""
VERDICTS = {
    "wrapped": ("wrapped", "came back"),
    "rewritten": ("rewritten", "did not come back"),
    "undecided": ("too few seeds", "mixed evidence", "frozen", "came part of the way"),
    "unchanged": ("unchanged", "never left"),
    "diverged": ("diverged",),
    "none": ("not fine-tuned", "not reFTed", "not finished"),
}
"""What verdicts and courses share a colour."""
_DAY = {
    "ink": "#1B1F24",
    "soft": "#57606A",
    "page": "#FFFFFF",
    "card": "#F6F7F9",
    "line": "#D5D9DF",
    "pt": ROLES["old"],  # of words: what is legible on the page
    "ft": "#B84F00",
    "after": ROLES["after"],
    "map-low": ROLES["least"],
    "map-high": ROLES["most"],
    "on-low": "#1B1F24",
    "on-high": "#FFFFFF",
    "wrapped": "#B2D6EF",  # in grey: darker than
    "rewritten": "#FDE6D6",
    "undecided": "#FFF2B8",
    "unchanged": "#C9ECDF",
    "diverged": "#F5D9E7",
    "none": "#ECEEF1",
    "higher": "#D5E9F7",
    "lower": "#FDE3D0",
    "shade": "48%",
}
_BY_NIGHT = {
    "ink": "#E6E9ED",
    "soft": "#A3ACB6",
    "page": "#14171B",
    "card": "#1D2127",
    "line": "#3A414A",
    "pt": NIGHT[ROLES["old"]],
    "ft": NIGHT[ROLES["new"]],
    "wrapped": "#1A587D",
    "rewritten": "#4F270B",
    "undecided": "#5A4D0C",
    "unchanged": "#0D4E3B",
    "diverged": "#5B2A45",
    "none": "#2A2F36",
    "higher": "#173F58",
    "lower": "#5C3214",
    "shade": "36%",
}
_ON_PAPER = {"ink": "#000000", "soft": "#444444", "card": "#FFFFFF", "line": "#BBBBBB"}
_SHARES = ("#9BE0C7", "#5CC7A2", "#2FAE86", "#009E73", "#007A58", "#00583F", "#003D2B")
"""Shortcut shares among retrained models: the revived role's green from light to dark."""
ATTACKS = ("#0072B2", "#B84F00", "#007A5A", "#8A4FA8", "#7A6A00", "#A8324F", "#4A5A6A")
"""Of attacks beside each other, which have no roles; each is told by its name too."""


def share_colour(shares: Sequence[float], share: float) -> str:
    """The colour of a shortcut share (C_Tr) among those of a run, from light to dark."""
    if len(shares) < 2:
        return ROLES["revived"]
    place = list(shares).index(share) / (len(shares) - 1)
    return _SHARES[round(place * (len(_SHARES) - 1))]


def terminal_style(kind: str) -> str:
    """How a terminal shows a verdict: in dark letters on what the page shows behind it."""
    role = next((role for role, kinds in VERDICTS.items() if kind in kinds), "none")
    return f"bold {_DAY['ink']} on {_DAY[role]}"


def style_sheet() -> str:
    """What the page's style sheet takes its colours from: by day, by night and on paper."""
    classes = {role: [f".{kind.replace(' ', '-')}" for kind in kinds] for role, kinds in VERDICTS.items()}
    behind = [f"{', '.join(names)} {{ background: var(--{role}); }}" for role, names in classes.items()]
    night = f"@media (prefers-color-scheme: dark) {{ {_variables(_BY_NIGHT)} }}"
    paper = f"@media print {{ {_variables({**_DAY, **_ON_PAPER})} }}"
    by_day = _variables({**_DAY, "print-ink": _ON_PAPER["ink"]})
    return "\n".join([by_day, night, paper, *behind])


def _variables(colours: Mapping[str, str]) -> str:
    return f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in colours.items())} }}"
