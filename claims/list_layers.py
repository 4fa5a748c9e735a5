"""Claims Z1 to Z10: layer by layer, after Zhao, Ziser & Cohen 2024 (arXiv 2410.20008v1)."""

from veneer.claims import layers as rules
from veneer.claims.claim import Claim
from veneer.claims.needs import LAYERS

LAYER_SEEDS = 3
"""Fewest seeds for an answer, as for a verdict. All seeds share the pretrained base."""
_LAYERS = (LAYERS,)
_FIXED = "2026-11-27: fixed before any run that it judges was looked at."
_OF = "Unbiased CKA at the last token of the prompt, tasks that were seen and learned, intervals over seeds: "

LAYER_CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Z1",
        "Layers: the base grows unlike specialists with depth, and tasks unlike each other",
        "Fig. 2",
        _LAYERS,
        f"{_OF}the median similarity of base and specialist at the last layer lies below that at the first, "
        "and the interquartile range over tasks above.",
        LAYER_SEEDS,
        rules.base_falls,
        _FIXED,
    ),
    Claim(
        "Z2",
        "Layers: the multi-task model stays similar to specialists at depth, more than the base",
        "Fig. 2",
        _LAYERS,
        f"{_OF}at every layer of the upper half the median of the multi-task model lies above the base's, "
        f"and at the last layer above {rules.HIGH}.",
        LAYER_SEEDS,
        rules.tuned_stays_high,
        _FIXED,
    ),
    Claim(
        "Z3",
        "Layers: in lower layers the multi-task model lies below the base: they are shared",
        "Fig. 2",
        _LAYERS,
        f"{_OF}the median of the multi-task model less the base's, mean over the lower third of the layers, "
        "is below 0. (The paper shows it at 3 to 8 of 32.)",
        LAYER_SEEDS,
        rules.lower_layers_are_shared,
        _FIXED,
    ),
    Claim(
        "Z4",
        "Layers: in a middle band the spread over tasks of the multi-task model collapses",
        "Fig. 2",
        _LAYERS,
        f"{_OF}the least interquartile range over tasks from the layer of its peak on is below "
        f"{rules.COLLAPSED} of the peak.",
        LAYER_SEEDS,
        rules.spread_collapses,
        _FIXED,
    ),
    Claim(
        "Z5",
        "Layers: tasks that the base encodes poorly gain most by tuning",
        "Fig. 3",
        _LAYERS,
        "Over clusters, Pearson's correlation of the base's similarity with the multi-task model's less the "
        "base's, both means over layers and seeds, is below 0, by Fisher's interval. "
        f"Asked of {rules.ENOUGH_CLUSTERS} clusters or more.",
        LAYER_SEEDS,
        rules.poorly_encoded_gain_most,
        _FIXED,
    ),
    Claim(
        "Z6",
        "Layers: tuning adds dimensions from the lower middle on, most in the transition",
        "Fig. 5",
        _LAYERS,
        "The principal axes that hold 99 % of the variance, mean over tasks and over the layers above the "
        "lower third, are more in the multi-task model than in the base; and in more than half of the seeds "
        "they rise most into a layer of the transition.",
        LAYER_SEEDS,
        rules.more_dimensions,
        _FIXED,
    ),
    Claim(
        "Z7",
        "Layers: from the middle up clusters separate better in the multi-task model",
        "Fig. 4",
        _LAYERS,
        "The mean silhouette of clusters, over the upper half of the layers, is higher in the multi-task "
        "model than in the base.",
        LAYER_SEEDS,
        rules.clusters_separate,
        _FIXED,
    ),
    Claim(
        "Z8",
        "Layers, held-out tasks: the base is ahead in lower layers, the multi-task model in upper ones, and "
        "no spread collapses",
        "Fig. 7",
        _LAYERS,
        "As Z3 and Z2, of tasks that were held out: the mean gap is below 0 over the lower third of the "
        "layers and above 0 over the upper third, and the least spread after its peak is above "
        f"{rules.COLLAPSED} of the peak.",
        LAYER_SEEDS,
        rules.unseen_tasks_differ,
        _FIXED,
    ),
    Claim(
        "Z9",
        "Layers: similarity after tuning goes with how hard the prompts read, not with data size",
        "Fig. 6",
        _LAYERS,
        "Over tasks, the correlation of the multi-task model's similarity, mean over the upper half of the "
        "layers, with both readability grades is above 0, and that with the number of different examples "
        f"between -{rules.LITTLE} and {rules.LITTLE}, by Fisher's interval. Asked of {rules.ENOUGH_TASKS} "
        "tasks or more.",
        LAYER_SEEDS,
        rules.difficulty_not_size,
        _FIXED,
    ),
    Claim(
        "Z10",
        "Layers, ours: claims Z1 to Z4 show more than a common start would",
        "–",
        _LAYERS,
        f"{_OF}over the upper half of the layers the multi-task model is more similar to the task's "
        "specialist than to other tasks' specialists on the same prompts, and than those are to each other; "
        "at the last layer the base lies below the ceiling (two seeds of one specialist) and the ceiling "
        "above the floor.",
        LAYER_SEEDS,
        rules.more_than_a_common_start,
        _FIXED,
    ),
)
