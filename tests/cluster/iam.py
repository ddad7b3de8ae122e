"""IAM's answer to a request, by its rules: denied unless some statement allows it, for every resource that it is about.

Small on purpose: the operators that duel's policies use, and no statement that denies. moto's own evaluator denies a
request as soon as one statement's condition fails, which IAM does not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One authorisation: IAM makes one of each resource that an action is about. context: what is known of it."""

    action: str
    resource: str = "*"
    context: dict[str, Any] = field(default_factory=dict)


def _any(same: Callable[[str, str], bool]) -> Callable[[Any, list[str]], bool]:
    return lambda got, allowed: got is not None and any(same(str(got), one) for one in allowed)


OPERATORS: dict[str, Callable[[Any, list[str]], bool]] = {
    "StringEquals": _any(lambda got, one: got == one),
    "ArnEquals": _any(fnmatchcase),
    "StringLike": _any(fnmatchcase),
    "NumericLessThanEquals": _any(lambda got, one: float(got) <= float(one)),
    "StringNotEquals": lambda got, allowed: str(got) not in allowed,  # true of a key that is not there, too
    "Null": lambda got, allowed: (got is None) == (allowed == ["true"]),
    "ForAllValues:StringLike": lambda got, allowed: all(any(fnmatchcase(one, key) for key in allowed) for one in got),
}


def allows(statements: list[dict[str, Any]], asked: Asked) -> bool:
    """Whether a policy of these statements allows it."""
    return any(_matches(statement, asked) for statement in statements)


def _matches(statement: dict[str, Any], asked: Asked) -> bool:
    assert statement["Effect"] == "Allow"
    return (
        any(fnmatchcase(asked.action, action) for action in listed(statement["Action"]))
        and any(fnmatchcase(asked.resource, resource) for resource in listed(statement["Resource"]))
        and all(
            OPERATORS[operator](asked.context.get(key), listed(value))
            for operator, keys in statement.get("Condition", {}).items()
            for key, value in keys.items()
        )
    )


def listed(value: Any) -> list[Any]:
    """IAM takes one for a list of one."""
    return value if isinstance(value, list) else [value]
