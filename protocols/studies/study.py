"""What a study is: methods, seeds, what one run of one method measures, and what must come out.

A study is data. Runs are independent of each other, so they can go to processes and be resumed; what they
return is JSON, so a table and its charts can be made again without training anything.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from protocols.errors import ConfigError

Kind: TypeAlias = Literal["percent", "error", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """What a study is asked to do.

    Attributes:
        scenario: The study's name.
        seed: The first seed. Data, starts, batches and keys of a run follow from its seed.
        seeds: How many seeds, one after the other.
        rounds: Of each run.
        masked: Whether sums go through the protocol; else the same integers are added in clear, which gives
            the same bits.
    """

    scenario: str
    seed: int = 0
    seeds: int = 3
    rounds: int
    masked: bool = True

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("seed", self.seed, 0, 1 << 31),
            ("seeds", self.seeds, 1, 100),
            ("rounds", self.rounds, 1, 100_000),
        ):
            if not least <= value <= most:
                raise ConfigError(f"{name} is an integer from {least} to {most}, not {value}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of one method gave.

    Attributes:
        figures: Numbers for the table, by column.
        curves: Lines for the charts, by chart: a number per place, or None where a bar is missing.
    """

    figures: Mapping[str, float]
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table.

    Attributes:
        key: In file names: lower case, digits and hyphens.
        label: In words.
    """

    key: str
    label: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        key: As in `Measured.figures`.
        title: In words.
        kind: How numbers are written: "percent" of a fraction, "error" in powers of ten, or "plain".
        brief: Whether a terminal shows it as well as the page.
    """

    key: str
    title: str
    kind: Kind = "percent"
    brief: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of one curve per method, or of bars: the mean over seeds, and the range.

    Attributes:
        key: As in `Measured.curves`.
        heading: Of the drawing.
        title: What is drawn, with its unit.
        across: What the places are.
        kind: As of a column; "error" is drawn on a logarithmic scale.
        methods: Which of them; all unless given.
        note: What a reader should see.
        step: Places per point, 1 unless given.
        marks: Places at which something happens, named.
        bars: Names of the places where these have no order: bars are drawn then, of at most five methods,
            which colours alone tell apart. A place without a number has none.
    """

    key: str
    heading: str
    title: str
    across: str
    kind: Kind
    note: str
    methods: tuple[str, ...] = ()
    step: int = 1
    marks: tuple[tuple[int, str], ...] = ()
    bars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A table of some methods in some columns, by their keys, under a heading of its own."""

    heading: str
    methods: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """What must come out, and what did."""

    text: str
    found: str
    holds: bool


Runs: TypeAlias = Mapping[tuple[str, int], Measured]


@dataclass(frozen=True, slots=True)
class Findings:
    """All runs of a study: by method and seed."""

    runs: Runs

    def values(self, method: str, column: str) -> list[float]:
        """A figure of every seed."""
        return [each.figures[column] for (key, _), each in sorted(self.runs.items()) if key == method]

    def mean(self, method: str, column: str) -> float:
        """Over seeds."""
        return statistics.fmean(self.values(method, column))

    def worst(self, method: str, column: str) -> float:
        """The largest over seeds."""
        return max(self.values(method, column))


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A comparison.

    Attributes:
        settings: The defaults; its scenario is the study's name.
        title: Of the report.
        about: Paragraphs: what is compared, on which data, and what is private in it.
        methods: Rows.
        columns: Of the table.
        charts: Drawings.
        run: (method, seed, settings) to what was measured: pure, so that a run can be anywhere.
        promises: What must come out at the default settings.
        limits: What the study does not show.
        parts: Tables, where not all methods are compared in the same figures; else there is one.
    """

    settings: StudySettings
    title: str
    about: tuple[str, ...]
    methods: tuple[Method, ...]
    columns: tuple[Column, ...]
    charts: tuple[Chart, ...]
    run: Callable[[str, int, StudySettings], Measured]
    promises: Callable[[Findings], Iterator[Promise]]
    limits: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The scenario's."""
        return self.settings.scenario

    def tables(self) -> Iterator[tuple[str, list[Method], list[Column]]]:
        """Heading, rows and columns of each."""
        if not self.parts:
            yield "Comparison", list(self.methods), list(self.columns)
        for part in self.parts:
            methods = [method for method in self.methods if method.key in part.methods]
            yield part.heading, methods, [column for column in self.columns if column.key in part.columns]


def jobs(study: Study, settings: StudySettings) -> tuple[tuple[str, int], ...]:
    """Every method under every seed, seed by seed."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return tuple((method.key, seed) for seed in seeds for method in study.methods)
