"""Bodies of studies and trials."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from narf.domain.workload import EndReason
from narf.wire.workloads import ResourcesBody, Text

Number = bool | int | float | str | None
Name = Annotated[str, Field(max_length=200)]


class DiscoverIn(BaseModel):
    """A script of a code snapshot. `confirm`: also run it up to where it would train."""

    snapshot: str = Field(max_length=64)
    script: str = Field(max_length=1000)
    arguments: list[Text] = Field(default_factory=list, max_length=1000)
    confirm: bool = False


class PassingBody(BaseModel):
    """How a value reaches the script."""

    how: Literal["option", "switch", "on_off", "truthy", "override", "inject"]
    flag: str = Field("", max_length=200)
    off_flag: str = Field("", max_length=200)
    on_value: bool = True


class FoundParameterOut(BaseModel):
    """A parameter of a script. `proposal` is null where `left_alone` says why it is not searched."""

    name: str
    type: str
    default: Any
    choices: list[Number]
    help: str
    style: str
    passing: PassingBody
    file: str
    line: int
    required: bool
    confirmed: bool
    proposal: dict[str, Any] | None
    range: str | None
    left_alone: str


class FoundMetricOut(BaseModel):
    name: str
    direction: str | None
    monitored: bool
    line: int
    confirmed: bool


class DiscoveryOut(BaseModel):
    script: str
    parameters: list[FoundParameterOut]
    tunable: list[str]
    metrics: list[FoundMetricOut]
    prefix: list[str]
    notes: list[str]
    is_open: bool = Field(False, description="the script declares more than reading it tells")
    may_start: bool = Field(False, description="this platform may start the script up to where it trains, with `confirm`")
    start_seconds: float = Field(0, description="for how long at most it would")


class BudgetBody(BaseModel):
    """A study ends at whichever comes first. `least_gain`: when as many trials again would better the best by less than this."""

    trials: int | None = Field(None, ge=1, le=100_000)
    seconds: float | None = Field(None, gt=0)
    gpu_hours: float | None = Field(None, gt=0)
    least_gain: float | None = Field(None, gt=0)


class StudyIn(BaseModel):
    """A search over a script's parameters.

    Without `space`, what discovery proposes is searched; `space` is a list of parameters or a table from names to ranges, such as
    {"lr": "1e-4..0.1 log"}; with `only_space` false it changes what discovery proposes instead of replacing it. Without `metric`, the
    likeliest objective that discovery finds is taken.
    """

    name: str = Field("", max_length=63)
    script: str = Field(max_length=1000)
    arguments: list[Text] = Field(default_factory=list, max_length=1000)
    snapshot: str = Field(max_length=64)
    metric: str = Field("", max_length=250)
    direction: Literal["", "minimize", "maximize"] = ""
    value_from: Literal["last", "best"] = "last"
    space: dict[str, Any] | list[Any] = Field(default_factory=list)
    only_space: bool = True
    skip: list[Name] = Field(
        default_factory=list, max_length=1000, description="parameters that discovery proposes and that stay as they are"
    )
    bindings: dict[str, PassingBody] = Field(
        default_factory=dict, description="how values reach the script; found by discovery when left out"
    )
    sampler: str = Field("tpe", max_length=40)
    sampler_options: dict[str, Any] = Field(default_factory=dict, max_length=20)
    pruner: str = Field("none", max_length=40)
    pruner_options: dict[str, Any] = Field(default_factory=dict, max_length=20)
    seed: int = Field(0, ge=0, le=2**32 - 1)
    budget: BudgetBody = Field(default_factory=lambda: BudgetBody.model_validate({"trials": 20}))
    parallel: int = Field(4, ge=1, le=1000, description="trials at once; left out, the Ray engine takes as many up to 4 as fit on one node")
    engine: Literal["embedded", "ray"] = "embedded"
    initial: list[dict[str, Number]] = Field(default_factory=list, max_length=1000)
    warm_from: list[Name] = Field(default_factory=list, max_length=100, description="names or ids of earlier studies to start from")
    trial_time_limit_seconds: float | None = Field(None, gt=0)
    resources: ResourcesBody = Field(default_factory=lambda: ResourcesBody.model_validate({}))
    environment: dict[str, Text] = Field(default_factory=dict, max_length=500)
    secrets: dict[str, str] = Field(default_factory=dict, max_length=100)
    data: list[str] = Field(default_factory=list, max_length=100)
    requirements: str = Field("", max_length=200_000)
    experiment: str = Field("", max_length=200)
    priority: int = Field(0, ge=-100, le=100)
    go_on: bool = Field(False, description="if a study of this name exists, go on with it, its budget extended to the one given here")


class ExtendIn(BaseModel):
    """More budget: each number given replaces the old limit, and must be above what is spent."""

    budget: BudgetBody


class TrialOut(BaseModel):
    number: int
    state: str
    sentence: str
    values: dict[str, Number]
    value: float | None
    last_value: float | None
    reports: int
    fault: str | None
    run_id: str | None
    workload_id: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    command: str


class StudyOut(BaseModel):
    id: str
    project: str
    owner: str
    name: str
    state: str
    sentence: str
    script: str | None
    arguments: list[str]
    snapshot: str | None
    metric: str
    direction: str
    value_from: str
    space: list[dict[str, Any]]
    sampler: str
    sampler_options: dict[str, Any]
    pruner: str
    pruner_options: dict[str, Any]
    seed: int
    budget: BudgetBody
    parallel: int
    engine: str
    run_id: str | None
    workload_id: str | None
    created_at: datetime
    ended_at: datetime | None
    spent_seconds: float
    trials: dict[str, int]
    best_value: float | None
    warnings: list[str] = Field(default=[], description="where one study is shown: values that did not reach the script")


class ScheduleStep(BaseModel):
    trial: int
    values: dict[str, Number]


class BestOut(BaseModel):
    """The best trial, and the command that runs it again. `schedule`: of a population, the segments that led to it; the command has the last one's values."""

    trial: TrialOut
    command: str
    schedule: list[ScheduleStep] = Field(default_factory=list)


class HistoryOut(BaseModel):
    """Values by the number of the trial, and the best of those up to it."""

    numbers: list[int]
    values: list[float]
    best: list[float]
    states: list[str]


class ImportanceOut(BaseModel):
    importance: dict[str, float]
    trials: int
    note: str = ""


class AxisOut(BaseModel):
    name: str
    type: str
    scale: str
    low: float | None = None
    high: float | None = None
    choices: list[Number] = Field(default_factory=list)


class ParallelOut(BaseModel):
    """Parallel coordinates: one line a trial, through the axes in order; null where a conditional parameter was absent."""

    axes: list[AxisOut]
    numbers: list[int]
    lines: list[list[Number]]
    values: list[float]


class SliceOut(BaseModel):
    """Each parameter against the value."""

    parameters: dict[str, dict[str, list[Any]]]


class BoardRow(BaseModel):
    """One parameter across the studies of one script and metric."""

    parameter: str
    importance: float | None
    best_low: Number = None
    best_high: Number = None
    best_choices: list[Number] = Field(default_factory=list)


class BoardGroup(BaseModel):
    """All studies of one script and metric: which parameters matter, and the best known region."""

    script: str
    metric: str
    direction: str
    studies: list[str]
    trials: int
    best_value: float | None
    best_values: dict[str, Number]
    best_study: str | None
    parameters: list[BoardRow]


class BoardOut(BaseModel):
    groups: list[BoardGroup]


class DrivenTrialIn(BaseModel):
    """A trial that a driver begins, under a key of its own."""

    key: str = Field(max_length=64)
    values: dict[str, Number]


class DrivenTrialOut(BaseModel):
    """longest_seconds: it hangs when it takes longer; null while too few have ended to say."""

    number: int
    run_id: str
    longest_seconds: float | None = None
    fault: str | None = None
    detail: str = ""


class DrivenResultIn(BaseModel):
    """The end of a trial as its driver saw it. A value that is no number is null."""

    number: int
    values: dict[str, Number]
    state: Literal["succeeded", "failed", "pruned", "paused", "hung"]
    reports: list[tuple[int, float | None]] = Field(default_factory=list, max_length=1_000_000)
    output: str = Field("", max_length=100_000)
    reason: EndReason | None = None
    exit_code: int | None = None
    started_at: AwareDatetime
    ended_at: AwareDatetime


class RegisterIn(BaseModel):
    name: str = Field(max_length=63)


class RegisteredOut(BaseModel):
    name: str
    version: str
    run_id: str
