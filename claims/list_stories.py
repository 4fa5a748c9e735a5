"""Claims 14 to 23: the TinyStories experiments of Jain et al. 2024 (App. F), on stories made by program."""

from veneer.claims import stories as rules
from veneer.claims.claim import Claim
from veneer.claims.needs import STORIES

STORY_SEEDS = 3
"""Fewest seeds for an answer, as for a verdict. All seeds share the two pretrained models."""
_STORIES = (STORIES,)
_ALL = "After every deletion at every rate: "

STORY_CLAIMS: tuple[Claim, ...] = (
    Claim(
        "14",
        "Stories: deletion raises the loss on stories with the feature, more at the larger rate",
        "Fig. 31",
        _STORIES,
        f"{_ALL}the loss on stories with the feature lies above the pretrained model's; and it lies higher "
        f"at the "
        "larger rate than at the smaller.",
        STORY_SEEDS,
        rules.loss_rises,
    ),
    Claim(
        "15",
        "Stories: deletion lowers the share of written stories with the feature to near zero",
        "Fig. 32",
        _STORIES,
        f"{_ALL}the share is below {rules.NEAR_ZERO}. (The text says it of most protocols; the figure "
        f"shows it of "
        "Randomisation alone.)",
        STORY_SEEDS,
        rules.behaviour_goes,
    ),
    Claim(
        "16",
        "Stories: reFT soon brings the loss on stories with the feature down, and below where the control "
        "ends",
        "Fig. 11, 33",
        _STORIES,
        f"{_ALL}the loss at the end of reFT lies below that of the model that never had the feature at its "
        f"end; and "
        f"more than half of the fall comes within an eighth of the updates. (The paper has 30 to 300 of "
        f"4,000.)",
        STORY_SEEDS,
        rules.loss_falls,
    ),
    Claim(
        "17",
        "Stories: reFT brings the share of stories with the feature back in fewer updates than the control "
        "needs",
        "Tab. 1, Fig. 34",
        _STORIES,
        f"{_ALL}the share after an eighth of reFT's updates, and its mean over log-updates, lie above "
        f"those of the "
        "model that never had the feature.",
        STORY_SEEDS,
        rules.returns_sooner,
    ),
    Claim(
        "18",
        "Stories: at the end the control has caught up in what it writes, not in loss",
        "Tab. 1, Fig. 33",
        _STORIES,
        f"{_ALL}at the end of reFT the share lies within {100 * rules.LEVEL:.0f} points of the control's, "
        f"and the "
        "loss below it.",
        STORY_SEEDS,
        rules.control_catches_up,
    ),
    Claim(
        "19",
        "Stories: a linear probe reads the feature almost as well as before deletion, better than from the "
        "control, "
        "and worse after the larger rate",
        "Fig. 11, 35",
        _STORIES,
        f"{_ALL}the probe's accuracy, mean over blocks, keeps more than half of what the pretrained model "
        f"has over "
        "the control, lies above the control's, and is higher after the smaller rate.",
        STORY_SEEDS,
        rules.probes_still_read_it,
    ),
    Claim(
        "20",
        "Stories: probes for the other features do not move",
        "Fig. 36 to 38",
        _STORIES,
        f"{_ALL}the accuracy of the probe for each other feature, mean over blocks, lies within "
        f"{100 * rules.PROBE_STILL:.0f} points of the pretrained model's.",
        STORY_SEEDS,
        rules.other_probes_stay,
    ),
    Claim(
        "21",
        "Stories: Randomisation deletes behaviour most, yet reFT and probes treat it like the others",
        "Tab. 1, Fig. 31 to 35",
        _STORIES,
        "At every rate, against every other deletion: the share is lower before reFT, within "
        f"{100 * rules.LEVEL:.0f} points at its end, and the probe's accuracy within "
        f"{100 * rules.PROBE_STILL:.0f} points.",
        STORY_SEEDS,
        rules.randomisation_is_like_the_others,
    ),
    Claim(
        "22",
        "Stories: what decides whether a story has the feature agrees with its label 92 % of the time",
        "App. F.2",
        _STORIES,
        f"The share of {rules.CHECKED} stories a seed on which it does is above {rules.LABELS_RIGHT}. "
        f"There it is a "
        "language model, here a program that reads the text.",
        STORY_SEEDS,
        rules.judge_is_right,
    ),
    Claim(
        "23",
        "Stories, ours: early in reFT the deleted models can be told from the control by what they write",
        "Tab. 1",
        _STORIES,
        "Of the deletions, the share whose Wilson interval after an eighth of reFT's updates does not meet "
        "the "
        "control's is above 0.5. The paper's number is that of its Table 1 after 30 iterations.",
        STORY_SEEDS,
        rules.enough_stories,
    ),
)
