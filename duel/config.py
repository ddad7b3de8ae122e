"""A sweep file (YAML) -> typed, validated settings.

An error names the file, the key, the value received and what is allowed.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from duel.errors import UsageError
from duel.families import FAMILIES, SEASONS
from duel.settings_file import CoreLoader, read_settings, short
from duel.spaces import PARAMETERS, Scalar, Space, Strict

PARTITIONS = ("generator_train", "detector_train", "validation", "league")


class Budget(Strict):
    """What one trial may spend, in images it trains on, and when ASHA may stop it (Li 2020)."""

    max_images: int = Field(ge=1, description="a trial that reaches this enters the league")
    grace_images: int = Field(ge=1, description="ASHA's grace period: no trial stops before")
    reduction_factor: int = Field(3, ge=2, description="ASHA's eta: each rung keeps about the best 1/eta")
    report_every: int = Field(ge=1, description="images between two measurements, which are also checkpoints")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.grace_images > self.max_images:
            raise ValueError(f"grace_images {self.grace_images} is above max_images {self.max_images}")
        if self.max_images % self.report_every or self.grace_images % self.report_every:
            raise ValueError(
                f"max_images {self.max_images} and grace_images {self.grace_images} must be "
                f"multiples of report_every {self.report_every}"
            )
        return self

    def rungs(self) -> list[int]:
        """Images at which ASHA compares trials: grace * eta^i, each the next report's, below the maximum."""
        rungs, at = [], self.grace_images
        while at < self.max_images:
            rungs.append(at)
            at = -(-at * self.reduction_factor // self.report_every) * self.report_every
        return rungs


def places(room: dict[str, float], cpus: float, gpus: float) -> int:
    """How many tasks that each reserve the cpu and gpu of `room` fit so many CPU cores and GPUs, at least one."""
    fits = cpus / room["cpu"]
    if room["gpu"]:
        fits = min(fits, gpus / room["gpu"])
    return max(1, int(fits))


class Resources(Strict):
    """What one trial reserves. `gpu` may be a fraction; where the cluster has no GPU it counts as 0."""

    cpu: int = Field(1, ge=1)
    gpu: float = Field(0.0, ge=0, allow_inf_nan=False)
    spare_cores: bool = Field(
        True, description="whether trials on this machine alone also take cores that would lie idle"
    )

    @model_validator(mode="after")
    def _gpu_fraction(self) -> Self:
        if self.gpu > 1 and self.gpu != int(self.gpu):
            raise ValueError(f"gpu must be a fraction up to 1 or a whole number, got {self.gpu}")
        return self


class LaterSeasons(Strict):
    """What differs from season 2 on, where trials start from earlier entrants and meet earlier rivals."""

    budget: Budget | None = Field(None, description="of one trial, in new images; default: the first season's")
    space: Space = Field({}, description="what is searched about how a trial competes: see duel.families.SEASONS")
    twins: int = Field(
        1, ge=0, description="entrants a season, best first, that are trained again without competing, as controls"
    )


class SideSweep(Strict):
    """How one side is searched: families with their search spaces, objective, budget, resources."""

    objective: str
    mode: Literal["min", "max"]
    budget: Budget
    resources: Resources = Resources()
    max_concurrent: int = Field(4, ge=1, description="trials at once, and how far the search runs ahead of results")
    startup_trials: int = Field(6, ge=1, description="random trials, families in turn, before Optuna's TPE takes over")
    families: dict[str, Space] = Field(min_length=1)
    later_seasons: LaterSeasons = LaterSeasons()

    def budget_in(self, season: int) -> Budget:
        """What one trial of the season may spend."""
        return self.budget if season == 1 or self.later_seasons.budget is None else self.later_seasons.budget

    @property
    def worst(self) -> float:
        """What a failed trial counts as: finite, and worse than any that works."""
        return {"min": 1e6, "max": 0.0}[self.mode]


class GeneratorSweep(SideSweep):
    """The generators' side: objective KID on validation reals."""

    objective: Literal["kid"] = "kid"
    mode: Literal["min"] = "min"


class DetectorSweep(SideSweep):
    """The detectors' side: objective AUC on validation reals and fakes."""

    objective: Literal["auc"] = "auc"
    mode: Literal["max"] = "max"
    leave_family_out: int = Field(
        1, ge=0, description="designs, the best of each family first, trained again without each generator family"
    )


class FaceCounts(Strict):
    """Real faces a partition; partitions never share a face or a duplicate of one.

    A detector trains on as many fakes as reals, and a match has as many fakes as held-out reals.
    """

    generator_train: int = Field(ge=16)
    detector_train: int = Field(ge=16)
    validation: int = Field(ge=50)
    league: int = Field(ge=16)

    def sizes(self) -> dict[str, int]:
        """Images a partition, in the order of PARTITIONS."""
        return {name: getattr(self, name) for name in PARTITIONS}


class Guard(Strict):
    """From where on a generator's wins are marked as cheap."""

    kid_share: float = Field(
        0.5, gt=0, allow_inf_nan=False, description="not faces: a KID above this share of the KID of noise"
    )
    copies: float = Field(0.05, gt=0, le=1, description="copies: a larger share of fakes that are training faces")


class Sweep(Strict):
    """A whole sweep file."""

    image_size: Literal[16, 32, 64, 128, 256]
    trials: int = Field(32, ge=2, description="default of --trials; half generators, half detectors")
    faces: FaceCounts
    generators: GeneratorSweep
    detectors: DetectorSweep
    guard: Guard = Guard()

    def side(self, side: str) -> SideSweep:
        """The settings of side 'generator' or 'detector'."""
        return self.generators if side == "generator" else self.detectors


def share(trials: int, side: str) -> int:
    """How many of all trials are of `side`: half of them, the odd one a generator."""
    return trials - trials // 2 if side == "generator" else trials // 2


def load_sweep(path: Path) -> Sweep:
    """Read and check a sweep file; UsageError lists every fault in it."""
    wanted = f"the keys {', '.join(Sweep.model_fields)}"
    return parse_sweep(read_settings(path, wanted, flag="--sweep ", loader=CoreLoader), str(path))


def parse_sweep(raw: dict, name: str, typed: bool = True) -> Sweep:
    """Check settings read from the file `name`.

    typed: whether fixed values and choices become those of their setting's type, as 1 becomes 1.0. An earlier run goes
    on with the choices that its study knows.
    """
    try:
        sweep = Sweep.model_validate(raw)
    except ValidationError as error:
        raise UsageError("\n".join(f"{name}: {_fault(e, Sweep)}" for e in error.errors())) from None
    faults = [f"{name}: {fault}" for side in ("generator", "detector") for fault in _space_faults(sweep, side)]
    if faults:
        raise UsageError("\n".join(faults))
    if typed:
        for side in ("generator", "detector"):
            _give_types(sweep.side(side), side)
    return sweep


def _give_types(sweep: SideSweep, side: str) -> None:
    """Replace the values of a side's search spaces, which have no faults, by those of their settings' types."""
    spaces = [(FAMILIES[side][family], space) for family, space in sweep.families.items()]
    for settings, space in [*spaces, (SEASONS[side], sweep.later_seasons.space)]:
        for name, parameter in space.items():
            space[name] = parameter.converted(partial(_in_type, settings, name))


def _in_type(settings: type[BaseModel], name: str, value: Scalar) -> Scalar:
    return getattr(settings(**{name: value}), name)


def _space_faults(sweep: Sweep, side: str) -> Iterator[str]:
    """Faults of one side's search spaces: unknown families and settings, values a family does not allow."""
    for family, space in sweep.side(side).families.items():
        key = f"{side}s.families.{family}"
        if family not in FAMILIES[side]:
            yield f"{key}: no such {side} family; allowed are {', '.join(FAMILIES[side])}"
            continue
        allowed = FAMILIES[side][family].model_fields
        for name, parameter in space.items():
            if name not in allowed:
                yield f"{key}.{name}: {family} has no such setting; allowed are {', '.join(allowed)}"
                continue
            for value in parameter.ends():
                yield from _value_fault(f"{key}.{name}", FAMILIES[side][family], name, value)
                if name == "batch_size" and isinstance(value, int):
                    yield from _batch_fault(f"{key}.{name}", sweep.side(side), f"{side}s", value)
    yield from _season_faults(sweep.side(side).later_seasons.space, side)


def _batch_fault(key: str, side: SideSweep, name: str, value: int) -> Iterator[str]:
    budgets = {"budget": side.budget, "later_seasons.budget": side.later_seasons.budget}
    for part, budget in budgets.items():
        if budget is not None and value > budget.report_every:
            yield f"{key}: must not be above {name}.{part}.report_every, got {value}"


def _season_faults(space: Space, side: str) -> Iterator[str]:
    key, settings = f"{side}s.later_seasons.space", SEASONS[side]
    for name, parameter in space.items():
        if name not in settings.model_fields:
            yield f"{key}.{name}: no such setting; allowed are {', '.join(settings.model_fields)}"
            continue
        for value in parameter.ends():
            yield from _value_fault(f"{key}.{name}", settings, name, value)


def _value_fault(key: str, settings: type[BaseModel], name: str, value: Scalar) -> Iterator[str]:
    try:
        typed = _in_type(settings, name, value)
    except ValidationError as error:
        for fault in error.errors():
            yield f"{key}: {fault['msg'].lower()}, got {short(value)}"
        return
    if isinstance(value, bool) and not isinstance(typed, bool):
        yield f"{key}: must be a number, got {value}"


def _fault(error: Any, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in PARAMETERS)
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here are {', '.join(_allowed_keys(error['loc'][:-1], model))}"
    message = error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] == "missing" else f", got {short(error['input'])}"
    return f"{key or 'file'}: {message[0].lower() + message[1:]}{got}"


def _allowed_keys(loc: tuple, model: type[BaseModel]) -> list[str]:
    for part in loc:
        if part in PARAMETERS and part in loc[-1:]:
            return list(PARAMETERS[part].model_fields)
        field = model.model_fields.get(str(part))
        if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    return list(model.model_fields)
