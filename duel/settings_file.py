"""A YAML file -> plain values that are what they seem to be; UsageError with file, key and line where they are not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from duel.errors import UsageError

MOST_BYTES = 200_000
MOST_VALUES = 20_000  # with every alias written out; mission.yaml has 1,251


class CoreLoader(yaml.SafeLoader):
    """Bare words mean what YAML 1.2's core schema says: `1e-4` is a number, `010` is ten, `1:30` and `yes` are text.

    PyYAML goes by YAML 1.1, where these are text, 8, 90 and true. Merge keys (`<<`) stay.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number, always decimal."""
        return int(str(self.construct_scalar(node)).replace("_", ""))


CoreLoader.yaml_implicit_resolvers = {}  # its own, in place of YAML 1.1's
_NUMBER = "-+0123456789"
for _tag, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*$", list(_NUMBER)),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$", list(_NUMBER + ".")),
    ("float", r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", list("-+.")),
    ("merge", r"<<$", ["<"]),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
CoreLoader.add_constructor("tag:yaml.org,2002:int", CoreLoader.construct_yaml_int)


def read_settings(path: Path, wanted: str, flag: str = "", loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> dict:
    """A YAML file's settings; UsageError where it can't be read or holds none, saying what is `wanted`.

    loader: what bare words mean in it: PyYAML's own, or `CoreLoader`.
    """
    raw = _parse(_text(path, flag), path, loader)
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: must hold {wanted}; got {'nothing' if raw is None else short(raw)}")
    return raw


def short(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(path: Path, flag: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UsageError(f"{path}: must be a YAML file of at most {MOST_BYTES:,} bytes, got more")
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{flag}{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not a YAML file: must be UTF-8, got byte {data[error.start]:#x} at {error.start}"
        ) from None


def _parse(text: str, path: Path, loader: type[yaml.SafeLoader]) -> Any:
    reader = None
    try:
        reader = loader(text)
        node = reader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
            raise UsageError(f"{path}: must hold at most {MOST_VALUES:,} values with its aliases (*name) written out")
        if faults := [f"{path}: {fault}" for fault in _twice(node, "", set())]:
            raise UsageError("\n".join(faults))
        return reader.construct_document(node)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UsageError(f"{path}: must not be nested that deeply") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # PyYAML's, of `!!bool maybe` and the like
        raise UsageError(f"{path}: holds a value that can't be read as what it is or is tagged (!!): {error}") from None
    finally:
        if reader is not None:
            reader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are with every alias written out, found without writing them out."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # for an alias of what it stands in, which has no end
        known[id(node)] = 1 + sum(_count(child, known) for child in _children(node))
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _twice(node: yaml.Node, key: str, seen: set[int]) -> Iterator[str]:
    """Keys that a mapping has twice: PyYAML drops the first without a word. Those of a merged mapping don't count."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            yield from _twice(child, f"{key}[{number}]", seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            at, line = f"{key}.{name.value}" if key else str(name.value), name.start_mark.line + 1
            if isinstance(name, yaml.ScalarNode):
                if first := lines.get(name.value):
                    more = "; several are merged by <<: [*one, *other]" if name.value == "<<" else ""
                    yield f"{at}: must stand once, but stands in line {first} and in line {line}{more}"
                lines[name.value] = line
            yield from _twice(value, at, seen)
