"""What claims read of runs: numbers by seed, of one run or of several that are read as one."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl

from veneer.analysis.evidence import revival_threshold
from veneer.claims.evidence import BySeed
from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.model_names import SEED, model_name
from veneer.experiments.paper import Rate, rate_name
from veneer.experiments.returns import revival_tables
from veneer.experiments.store import Run
from veneer.models.files import read_json
from veneer.pcfg.families import SampleLayout
from veneer.report.stored_task import layout_of
from veneer.tasks.errors import InputError


class NotAnalysed(Exception):
    """A run that could answer lacks something; the message says what, with the command that makes it.

    Attributes:
        run: its folder, where it may be one of several that are read as one.
    """

    def __init__(self, message: str, run: Path | None = None) -> None:
        super().__init__(message)
        self.run = run


VARYING = ("learning_rates", "c_tr", "seeds", "first_seed", "control_rate")
"""Fields in which runs may differ and be read as one: which settings they have, and which seeds. The rate of
Scr. + FT, the greatest unless it is said, is one of settings too."""
CHAIN = ["capability", "start", "fine_tuning_rate", "c_tr", "seed"]
"""What tells one seed of one setting, with all that is trained and measured after it."""


class View:
    """A run's numbers as claims ask for them.

    Args:
        run: the run.
        more: runs alike (``alike``): to its settings they add the seeds that no run before them has.
    """

    def __init__(self, run: Run, *more: Run) -> None:
        self.run, self.runs = run, (run, *(one for one in more if one.path != run.path))
        self.read: set[str] = set()  # tables of veneer analyse that were asked for
        self.path = str(run.path)
        described = run.experiment
        self.name: str = described["name"]
        self.fields: dict[str, Any] = described["fields"]

    def alike(self, other: "View") -> bool:
        """Whether another run is the same but for its settings and seeds, so that both are read as one.

        Pretrained models are the same if their weights are. Where each seed has its own (``{seed}`` in the
        word), those of other seeds are as like it as their names, priors, lengths and shapes say.
        """
        return self.name == other.name and self._fixed == other._fixed

    @cached_property
    def _fixed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What runs alike have in common: fields, and what their pretrained models are."""
        fields = {name: value for name, value in self.fields.items() if name not in VARYING}
        models: dict[str, Any] = {}
        for word in fields.pop("pretrained", ()):
            name = model_name(word)
            if name in self.capabilities:
                about, origin = self.about(name), self._accuracy(name)["origin"]
                same = {key: about[key] for key in ("operand_prior", "iterations", "parameters")}
                models[name] = same, self._layout(name).describe(), SEED in word or origin["capability"]
        return fields, models

    @property
    def seeds(self) -> int:
        """Seeds that the run was asked for."""
        return self.fields["seeds"]

    @property
    def control_rate(self) -> float:
        """The rate at which Scr. + FT learned O_FT."""
        return self.fields["control_rate"] or max(self.fields["learning_rates"])

    @property
    def breadth(self) -> tuple[int, int, int]:
        """What tells the run to ask of several that have seeds enough: settings, capabilities, seeds."""
        return len(self.rates) * len(self.shares), len(self.capabilities), self.seeds

    @property
    def finished(self) -> bool:
        """Whether there is a fine-tuned model to look at."""
        try:
            return not self.tuned.is_empty()
        except InputError:
            return False

    @cached_property
    def metrics(self) -> pl.DataFrame:
        """``Run.metrics`` of cells that did not diverge."""
        return self._whole.filter(pl.col("status") == "done")

    @cached_property
    def _whole(self) -> pl.DataFrame:
        """The same, of all cells."""
        return pl.concat([self._own(run, run.metrics()) for run in self.runs])

    @cached_property
    def chains(self) -> dict[Path, pl.DataFrame]:
        """What of each run counts: seeds of settings that no run before it has, diverged ones among them."""
        found: dict[Path, pl.DataFrame] = {}
        starts: dict[tuple[str, int], Any] = {}  # of learned models: seeds of one number may be other models
        for run in self.runs:
            own = run.metrics().select(CHAIN).unique()
            untrained = own.with_columns(pl.lit(None).cast(own.schema[n]).alias(n) for n in CHAIN[2:4])
            own = pl.concat([own, untrained]).unique()
            if found:
                asked = found[self.run.path].select(CHAIN[:4])
                own = own.join(asked, on=CHAIN[:4], how="semi", nulls_equal=True)
            for name, seed in own.select("capability", "seed").unique().iter_rows():
                start = self._start(run, name, seed) if "pretrained" in self.fields else None
                if starts.setdefault((name, seed), start) != start:
                    own = own.filter(~((pl.col("capability") == name) & (pl.col("seed") == seed)))
            for before in found.values():
                own = own.join(before, on=CHAIN, how="anti", nulls_equal=True)
            found[run.path] = own
        return found

    def _start(self, run: Run, name: str, seed: int) -> str:
        """Hash of the weights that a seed of a run starts from."""
        file = run.path / "capabilities" / f"{name}-seed-{seed}" / "accuracy.json"
        return read_json(file, {"origin": dict})["origin"]["capability"]

    def adds(self, run: Run, settings: Collection[tuple[float, float] | None] = (None,)) -> bool:
        """Whether one of the other runs has a fine-tuned seed that counts, in these settings (None: any)."""
        tuned = self.chains[run.path].filter(
            (pl.col("start") == "capability") & pl.col("fine_tuning_rate").is_not_null()
        )
        found = set(tuned.select("fine_tuning_rate", "c_tr").iter_rows())
        return bool(found) if None in settings else not found.isdisjoint(settings)

    def _own(self, run: Run, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of a run's table that count."""
        if len(self.runs) == 1:
            return table
        chains = self.chains[run.path]
        return table.join(chains, on=CHAIN, how="semi", nulls_equal=True, maintain_order="left")

    @cached_property
    def tuned(self) -> pl.DataFrame:
        """One row per fine-tuned model: capability, task, rate, c_tr, seed, cell, and accuracies.

        Accuracies are named by texts and operand, such as natural_pt; with start_ in front, before
        fine-tuning.
        """
        rows = self.metrics.filter(
            (pl.col("measure") == "accuracy")
            & (pl.col("stage") == "fine-tune")
            & (pl.col("start") == "capability")
        ).with_columns(of=pl.format("{}_{}", "texts", "operand"), rate=pl.col("learning_rate"))
        step = pl.col("step")
        first = rows.filter(step == step.min().over("cell")).with_columns(of=pl.lit("start_") + pl.col("of"))
        both = pl.concat([first, rows.filter(step == step.max().over("cell"))])
        index = ["capability", "task", "rate", "c_tr", "seed", "cell"]
        return both.pivot("of", index=index, values="value", aggregate_function="first")

    @cached_property
    def capabilities(self) -> list[str]:
        """Names of the fine-tuned capabilities."""
        return self.tuned["capability"].unique(maintain_order=True).to_list()

    @cached_property
    def rates(self) -> list[float]:
        """Fine-tuning rates, large ones first."""
        return sorted(self.tuned["rate"].unique().to_list(), reverse=True)

    @cached_property
    def shares(self) -> list[float]:
        """C_Tr, small ones first."""
        return sorted(self.tuned["c_tr"].unique().to_list())

    def values(self, column: str, capability: str, rate: float, c_tr: float) -> BySeed:
        """A column of ``tuned`` by seed."""
        own = self.tuned.filter(capability=capability, rate=rate, c_tr=c_tr)
        return dict(own.select("seed", column).iter_rows())

    def cells(self, capability: str, rate: float, c_tr: float) -> dict[int, str]:
        """Ids of the fine-tuned cells of a setting, by seed."""
        own = self.tuned.filter(capability=capability, rate=rate, c_tr=c_tr)
        return dict(own.select("seed", "cell").iter_rows())

    def guess(self, texts: str, operand: str, capability: str) -> float:
        """Accuracy of always giving the commonest answer."""
        task = self.tuned.filter(capability=capability)["task"][0]
        return self.run.baselines(task)[texts]["majority"][operand]

    def was_learned(self, capability: str, rate: float, c_tr: float) -> bool:
        """Whether fine-tuning taught O_FT: half of skill, on texts as it was trained on, mean over seeds."""
        parts = [("correlated", c_tr), ("uncorrelated", 1 - c_tr)]
        right, guess = 0.0, 0.0
        for texts, share in parts:
            found = self.values(f"{texts}_ft", capability, rate, c_tr)
            if not found:
                return False
            right += share * mean(found.values())
            guess += share * self.guess(texts, "ft", capability)
        return right >= revival_threshold(guess)

    def lost(self, texts: str, capability: str, rate: float, c_tr: float) -> bool:
        """Whether fine-tuning took O_PT away: less than half of skill is left, mean over seeds."""
        found = self.values(f"{texts}_pt", capability, rate, c_tr)
        limit = revival_threshold(self.guess(texts, "pt", capability))
        return bool(found) and mean(found.values()) < limit

    def size(self, rate: float) -> Rate:
        """What the paper calls a rate of this size: η_L, η_M, η_S or η_VS."""
        return rate_name(self.fields, rate)

    def about(self, capability: str) -> dict[str, Any]:
        """What is known of a learned capability: operand_prior, iterations, parameters."""
        return self._accuracy(capability)["about"]

    def own_pretrainings(self, capability: str) -> bool:
        """Whether each seed starts from a pretraining of its own."""
        seeds = self.tuned.filter(capability=capability)["seed"].unique().to_list()
        weights = {self._accuracy(capability, seed)["origin"]["capability"] for seed in seeds}
        return len(weights) == len(seeds)

    def prior(self, capability: str) -> float:
        """How often pretraining asked for O_FT."""
        terminals = self._layout(capability).grammar.terminals
        return self.about(capability)["operand_prior"][terminals.index(self.fields["operand_ft"])]

    def _layout(self, capability: str) -> SampleLayout:
        """How the texts of a learned capability are laid out."""
        files = sorted(self._capability(capability).glob("*model.json"))
        if not files:
            raise InputError("run", self.path, "a run with its capabilities/", "a model.json is missing")
        return layout_of(read_json(files[0]))

    def _accuracy(self, name: str, seed: int | None = None) -> dict[str, Any]:
        """What a run says of a capability as a seed starts from it, the first unless one is named."""
        return read_json(self._capability(name, seed) / "accuracy.json", {"about": dict, "origin": dict})

    def _capability(self, name: str, seed: int | None = None) -> Path:
        folder = f"{name}-seed-{self.fields['first_seed'] if seed is None else seed}"
        places = [run.path / "capabilities" / folder for run in self.runs]
        return next((place for place in places if place.exists()), places[0])

    @cached_property
    def by_prior(self) -> list[str]:
        """Capabilities, those that pretraining asked least for O_FT first."""
        return sorted(self.capabilities, key=self.prior)

    @cached_property
    def revivals(self) -> dict[str, pl.DataFrame]:
        """See ``experiments.evidence.revival_tables``: made from the metrics, so never older than they are.

        Raises:
            NotAnalysed: no reFT is finished.
        """
        if self.metrics.filter((pl.col("stage") == "reft") & (pl.col("start") == "capability")).is_empty():
            raise NotAnalysed(f"{self.path} has no finished reFT: veneer run {self.name} --out {self.path}")
        return revival_tables(self.run, metrics=self._whole)

    def table(self, name: str) -> pl.DataFrame:
        """A table of ``veneer analyse``.

        Raises:
            NotAnalysed: it is not there.
        """
        tables = []
        self.read.add(name)
        for run in self.runs:
            found = read_analysis(run.path, name)
            if found is None:
                path = self.path if run is self.run else run.path
                analysis = {"classes": "pruning"}.get(name, name.partition("_")[0])
                told = f"{path} has no table {name}: veneer analyse {path} --only {analysis}"
                raise NotAnalysed(told, run.path)
            tables.append(self._own(run, found))
        return pl.concat(tables)
