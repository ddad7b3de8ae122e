"""What a sweep file may say about a setting: a bare value, a range or a list of choices."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Scalar = bool | int | float | str


class Strict(BaseModel):
    """A part of a sweep file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Values(Strict):
    """What a setting's value is drawn from."""

    def converted(self, convert: Callable[[Scalar], Scalar]) -> Self:
        """The same with each value that it lists converted; a range lists none."""
        return self


class _Range(_Values):
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low must not be above high, got low {self.low} and high {self.high}")
        return self

    def ends(self) -> list[Scalar]:
        """Values that must be allowed for all others to be; the last shows a setting of whole numbers."""
        return [self.low, self.high, self.low + 0.6180339887 * (self.high - self.low)]


class Uniform(_Range):
    """A number drawn evenly from [low, high]."""

    type: Literal["uniform"]


class LogUniform(_Range):
    """A number whose logarithm is drawn evenly; both ends above 0."""

    type: Literal["loguniform"]
    low: float = Field(gt=0, allow_inf_nan=False)


class Int(_Values):
    """A whole number from low to high, both included, in steps; `log: true` draws its logarithm evenly."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(1, ge=1)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got low {self.low} and high {self.high}")
        if self.log and (self.step != 1 or self.low < 1):
            raise ValueError("log: true needs step 1 and low of at least 1")
        return self

    def ends(self) -> list[Scalar]:
        """Values that must be allowed for all others to be."""
        return [self.low, self.high]


class Choice(_Values):
    """One of a list of values."""

    type: Literal["choice"]
    values: list[Scalar] = Field(min_length=1)

    def ends(self) -> list[Scalar]:
        """Values that must be allowed for all others to be."""
        return self.values

    def converted(self, convert: Callable[[Scalar], Scalar]) -> Self:
        """The same with each value converted."""
        return self.model_copy(update={"values": [convert(value) for value in self.values]})


class Fixed(_Values):
    """Always the same value; in a sweep file a bare value means this too."""

    type: Literal["fixed"]
    value: Scalar

    def ends(self) -> list[Scalar]:
        """Values that must be allowed for all others to be."""
        return [self.value]

    def converted(self, convert: Callable[[Scalar], Scalar]) -> Self:
        """The same with its value converted."""
        return self.model_copy(update={"value": convert(self.value)})


def _bare_value_is_fixed(value: Any) -> Any:
    return {"type": "fixed", "value": value} if isinstance(value, bool | int | float | str) else value


Parameter = Annotated[
    Annotated[Uniform | LogUniform | Int | Choice | Fixed, Field(discriminator="type")],
    BeforeValidator(_bare_value_is_fixed),
]
Space = dict[str, Parameter]
PARAMETERS: dict[str, type[BaseModel]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "int": Int,
    "choice": Choice,
    "fixed": Fixed,
}
