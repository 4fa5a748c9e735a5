"""Claims L1 to L8: context-dependent decisions as text (Lin 2024, arXiv 2406.18926v1).

Of the paper its abstract, its captions and a digest could be read; the places are what these name.
"""

from veneer.claims import cddm as rules
from veneer.claims.claim import Claim
from veneer.claims.needs import DECISIONS

DECISION_SEEDS = 3
"""Fewest seeds for an answer. All seeds share the pretrained model."""
_NEEDS = (DECISIONS,)
_MATCHED = "Over the seeds whose two arms decide equally well: "

DECISION_CLAIMS: tuple[Claim, ...] = (
    Claim(
        "L1",
        "Decisions: a pretrained model can be fine-tuned to decide by context well above chance, and so can "
        "the same network from scratch",
        "abstract",
        _NEEDS,
        f"The share right on held-out numbers is above {rules.ABOVE_CHANCE} in both arms: what a model gets "
        "at most that does not read the context.",
        DECISION_SEEDS,
        rules.both_learn,
    ),
    Claim(
        "L2",
        "Decisions: the task is novel: the untouched pretrained model is at chance",
        "abstract",
        _NEEDS,
        "The share right between left and right of the untouched model lies within "
        f"{rules.CHANCE} of one half, in the taught wording and in another.",
        DECISION_SEEDS,
        rules.novel,
    ),
    Claim(
        "L3",
        "Decisions: after fine-tuning, the largest losses come from ablating heads of later layers",
        "Fig. 4",
        _NEEDS,
        f"{_MATCHED}the depth centroid of the accuracy that zero ablation of single heads costs lies above "
        f"{rules.MIDDLE} (0 is the first block, 1 the last).",
        DECISION_SEEDS,
        rules.later_layers,
    ),
    Claim(
        "L4",
        "Decisions: from scratch, the largest losses come from ablating heads of the first layer",
        "Fig. 4",
        _NEEDS,
        f"{_MATCHED}the depth centroid from scratch lies below {rules.MIDDLE}, and below that after "
        "fine-tuning.",
        DECISION_SEEDS,
        rules.first_layer,
    ),
    Claim(
        "L5",
        "Decisions: the heads that matter after fine-tuning are those that matter for ordinary language "
        "before it",
        "Fig. 4, text",
        _NEEDS,
        f"{_MATCHED}over heads, the rank correlation of the loss on ordinary texts that zero ablation adds "
        "to the pretrained model, and the accuracy that it costs the fine-tuned one, is above 0, and above "
        "that of the model from scratch.",
        DECISION_SEEDS,
        rules.generic_heads,
    ),
    Claim(
        "L6",
        "Decisions: from scratch, heads of the first layer attend to the numbers",
        "Fig. 5, text",
        _NEEDS,
        f"{_MATCHED}of the first block's head whose ablation costs most, the last token's attention on the "
        "four numbers is above what even attention would give them.",
        DECISION_SEEDS,
        rules.looks_at_numbers,
    ),
    Claim(
        "L7",
        "Decisions: what is trained from scratch is more specific to the task",
        "abstract, Fig. 2, 3",
        _NEEDS,
        f"{_MATCHED}from scratch, more units tell a variable at the last token (mean over six variables), "
        "and the variables' classes lie further apart in the last layer (silhouette, mean over them).",
        DECISION_SEEDS,
        rules.more_specific,
    ),
    Claim(
        "L8",
        "Decisions: a fine-tuned model stays close to the pretrained one, most clearly in later layers",
        "abstract",
        _NEEDS,
        f"{_MATCHED}CKA with the pretrained model at the last token is larger after fine-tuning than from "
        "scratch in the later half of the blocks, and the gap is larger there than in the earlier half.",
        DECISION_SEEDS,
        rules.stays_close,
    ),
)
