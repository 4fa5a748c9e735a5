"""How a run's models came back: the curves of all that was trained on O_PT again, and of its rivals.

The statistics are ``veneer.analysis.revival``; here they are given the rows that belong together. A
*setting* is everything that cells share but for seed and stage; its controls are the models of the same
capability, task and seed that started from scratch, and its third operand is learned by its own models.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from veneer.analysis import revival
from veneer.analysis.evidence import Revival, Rival, revival_threshold
from veneer.analysis.revival import estimate
from veneer.analysis.verdict import HEAD_START
from veneer.experiments.named import THIRD
from veneer.experiments.store import Run, read_json
from veneer.tasks.errors import InputError

NOT_SETTING = ("cell", "parent", "stage", "learning_rate", "seed", "status", "start")
MOMENT = ("step", "measure", "texts", "operand", "value")
IS_THIRD = pl.col("stage") == THIRD
KNOWN = "^(wrapped|rewritten): "
"""How the starts of models whose truth is known by construction begin."""


def setting_columns(metrics: pl.DataFrame) -> list[str]:
    """The columns that tell settings apart: capability, task, rate and C_Tr of fine-tuning, axes."""
    return [name for name in metrics.columns if name not in (*NOT_SETTING, *MOMENT)]


def revival_curves(metrics: pl.DataFrame) -> pl.DataFrame:
    """O_PT accuracy on natural texts of everything that was trained on O_PT, with its arm.

    Args:
        metrics: ``Run.metrics``.

    Returns:
        Its rows of reFTs, up to where a cell diverged, with a column arm: "reft" (after fine-tuning),
        "third" (the same for an operand that the model never had: value is that operand's accuracy; "third, "
        and its start after a constructed one), "scratch-ft" (Scr. + FT), "scratch" (Scr.), or the start of
        a constructed model.
    """
    arm = (
        pl.when((pl.col("stage") == THIRD) & (pl.col("start") == "capability"))
        .then(pl.lit("third"))
        .when(pl.col("stage") == THIRD)
        .then(pl.concat_str(pl.lit("third, "), pl.col("start")))
        .when(pl.col("start") == "capability")
        .then(pl.lit("reft"))
        .when(pl.col("start") != "scratch")
        .then(pl.col("start"))
        .when(pl.col("fine_tuning_rate").is_null())
        .then(pl.lit("scratch"))
        .otherwise(pl.lit("scratch-ft"))
    )
    at = pl.col("status").str.extract(r"diverged at step (\d+)").cast(pl.Int64)
    return (
        _about_o_pt(metrics)
        .filter(
            pl.col("stage").is_in(["reft", THIRD])
            & (pl.col("measure") == "accuracy")
            & (pl.col("texts") == "natural")
            & (pl.col("operand") == "pt")
            & (at.is_null() | (pl.col("step") <= at))
        )
        .with_columns(arm=arm)
    )


def _about_o_pt(metrics: pl.DataFrame) -> pl.DataFrame:
    """Metrics in which the third operands of constructed models, which begin a chain, name O_PT's task.

    It is that of the same model's reFT. Where several tasks are asked of it (in a sweep), theirs stay apart.
    """
    built = metrics.filter(pl.col("start").str.contains(KNOWN))
    if built.filter(pl.col("stage") == THIRD).is_empty():
        return metrics
    axes = [n for n in setting_columns(metrics) if n not in ("task", "fine_tuning_rate", "c_tr")]
    same = ["start", "seed", "learning_rate", *axes]
    asked = built.filter(pl.col("stage") == "reft").select(*same, asked="task").unique()
    joined = metrics.join(asked, on=same, how="left", nulls_equal=True, maintain_order="left")
    third = (pl.col("stage") == THIRD) & pl.col("asked").is_not_null()
    named = pl.when(third).then(pl.col("asked")).otherwise(pl.col("task")).alias("task")
    return joined.with_columns(named).drop("asked")


def revival_tables(
    run: Run, thresholds: Sequence[float] = revival.THRESHOLDS, metrics: pl.DataFrame | None = None
) -> dict[str, pl.DataFrame]:
    """Times to the thresholds, their Kaplan–Meier medians, and the ratios control / reFT.

    Args:
        run: the run.
        thresholds: accuracies of O_PT.
        metrics: of runs that are read as one, all of them; none takes the run's.

    Returns:
        "revival": the times of each curve (``veneer.analysis.revival.threshold_times``); "survival": medians
        over seeds; "ratios": for each setting, reFT rate, threshold and control the ratio of updates.

    Raises:
        InputError: the run has no finished reFT.
    """
    metrics = run.metrics() if metrics is None else metrics
    curves = revival_curves(metrics)
    if curves.filter(pl.col("arm") == "reft").is_empty():
        valid = f"a run with a finished reFT: veneer run {run.experiment['name']} --out {run.path}"
        raise InputError("run", str(run.path), valid, "no reFT in it is finished")
    setting = setting_columns(metrics)
    keys = [*setting, "arm", "learning_rate"]
    # Nulls (Scr. has no fine-tuning) are values here: they must group like others.
    times = revival.threshold_times(curves.select(*keys, "seed", "step", "value"), keys, thresholds)
    return {
        "revival": times,
        "survival": revival.survival(times, keys),
        "ratios": _ratios(times, setting),
    }


def _ratios(times: pl.DataFrame, setting: list[str]) -> pl.DataFrame:
    rows = []
    own = times.filter(pl.col("arm") == "reft")
    for named, group in own.group_by([*setting, "learning_rate", "threshold"], maintain_order=True):
        values = dict(zip([*setting, "learning_rate", "threshold"], named, strict=True))
        for control in ("third", "scratch-ft", "scratch"):
            theirs = _control(times, values, control).filter(pl.col("threshold") == values["threshold"])
            if not theirs.is_empty():
                ratio = revival.ratio_of_times(group, theirs)
                limits = {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "seeds": ratio.seeds}
                rows.append({**values, "control": control, **limits})
    own_columns = {"ratio": pl.Float64, "low": pl.Float64, "high": pl.Float64, "seeds": pl.Int64}
    return pl.DataFrame(
        rows,
        schema={
            **{name: times.schema[name] for name in [*setting, "learning_rate", "threshold"]},
            "control": pl.String,
            **own_columns,
        },
    )


def _control(table: pl.DataFrame, values: dict[str, Any], arm: str) -> pl.DataFrame:
    """Rows of a control: same capability, task, reFT rate and point, whatever the fine-tuning was.

    A third operand is learned by the fine-tuned model itself, so there the fine-tuning is the same too.
    """
    free = ("threshold",) if arm == "third" else ("fine_tuning_rate", "c_tr", "threshold")
    shared = [
        pl.col(name) == value for name, value in values.items() if name not in free and value is not None
    ]
    return table.filter(pl.col("arm") == arm, *shared)


def equal(values: dict[str, Any]) -> list[pl.Expr]:
    """Rows with these values, nulls among them."""
    return [pl.col(name).eq_missing(pl.lit(value)) for name, value in values.items()]


def revivals_of(
    run: Run,
    values: dict[str, Any],
    own: pl.DataFrame,
    curves: pl.DataFrame,
    guess: float,
    leave_out: str | None,
) -> Iterator[Revival]:
    """Each reFT rate beside its rivals; known wrappers count but for the one that is judged."""
    third_guess = _third_guess(run, own)
    for (rate,), both in own.group_by(["learning_rate"], maintain_order=True):
        shared = {**values, "learning_rate": rate}
        group, third = both.filter(~IS_THIRD), both.filter(IS_THIRD)
        if group.is_empty():
            continue
        known = curves.filter(
            pl.col("start").str.starts_with("wrapped: "),
            pl.col("start") != (leave_out or ""),
            *equal({name: shared[name] for name in ("capability", "task", "learning_rate")}),
        )
        done = group.filter(pl.col("status") == "done")
        last = (group if done.is_empty() else done).filter(
            pl.col("step") == pl.col("step").max().over("cell")
        )
        reached, ended = _times(group, guess), last["value"].to_list()
        scratch = [
            _rival(name, group, guess, control, guess)
            for arm, name in (("scratch", "Scr."), ("scratch-ft", "Scr. + FT"))
            if not (control := _control(curves, shared, arm).filter(pl.col("status") == "done")).is_empty()
        ]
        alone = reached.filter(~pl.col("already"))
        yield Revival(
            rate=float(str(rate)),
            updates=int(group["step"].max()),  # pyright: ignore[reportArgumentType]
            reached=int(alone["reached"].sum()),
            seeds=group["seed"].n_unique(),
            after=estimate(ended, 0.0, 1.0, texts_of(run, len(ended))),
            time=revival.bounds_of_ratio(alone, alone)[1],
            third=None if third.is_empty() else _rival("a third operand", group, guess, third, third_guess),
            scratch=min(scratch, key=_lead, default=None),
            wrappers=_shown(known, guess),
        )


def _rival(name: str, reft: pl.DataFrame, guess: float, rival: pl.DataFrame, its_guess: float) -> Rival:
    """What reFT's curves are beside others', each to half of the skill of what it is asked."""
    fast, slow = _times(reft, guess), _times(rival, its_guess)
    return Rival(
        name=name,
        reached=int(slow["reached"].sum()),
        seeds=rival["seed"].n_unique(),
        ratio=revival.ratio_of_times(fast, slow),
        bounds=revival.bounds_of_ratio(fast, slow)[0],
        lead=revival.difference(_areas(reft), _areas(rival)),
    )


def _shown(known: pl.DataFrame, guess: float) -> tuple[int, int] | None:
    """Of known wrappers, how many came back, ahead of a third operand where they were taught one."""
    own, third = known.filter(~IS_THIRD), known.filter(IS_THIRD)
    shown, tried = 0, 0
    for (start,), curves in own.group_by(["start"], maintain_order=True):
        times = _times(curves, guess)
        areas, theirs = _areas(curves), _areas(third.filter(pl.col("start") == start))
        for seed in times.filter(pl.col("reached"))["seed"].to_list():
            whole = seed in areas  # one that diverged after it came back did not hold it
            shown += whole and (seed not in theirs or areas[seed] - theirs[seed] >= HEAD_START)
        tried += len(times)
    return (shown, tried) if tried else None


def _lead(rival: Rival) -> float:
    """How far O_PT is ahead of it: the rival with the least is the faster one."""
    return float("inf") if rival.lead.value is None else rival.lead.value


def _times(table: pl.DataFrame, guess: float) -> pl.DataFrame:
    columns = table.select("arm", "seed", "step", "value")
    return revival.threshold_times(columns, ["arm"], [revival_threshold(guess)])


def _areas(table: pl.DataFrame) -> dict[int, float]:
    done = table.filter(pl.col("status") == "done")
    if done.is_empty():
        return {}
    found = revival.areas(done.select("seed", "step", "value"), [])
    return dict(found.select("seed", "area").iter_rows())


def _third_guess(run: Run, own: pl.DataFrame) -> float:
    """Accuracy of always giving the third operand's commonest answer; 0 where there is none."""
    third = own.filter(IS_THIRD)
    if third.is_empty():
        return 0.0
    task = read_json(run.cell_path(third["cell"][0]) / "cell.json")["task_id"]
    return run.baselines(task)["natural"]["majority"]["pt"]


def texts_of(run: Run, seeds: int) -> int:
    """How many evaluation texts a mean over seeds rests on."""
    fields = run.experiment["fields"]
    return fields["evaluation_samples"] * (seeds if fields["own_samples"] else 1)
