"""What is known about a set of faces besides its pixels."""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Manifest:
    """Where the faces came from and what became of each file."""

    source: str  # as the user named it
    kind: str  # folder, zip, tar, parquet or drawn
    found: int  # images found in the source
    used: int  # images in the array
    ignored: int  # other files in the source, by their names no images
    skipped: list[dict[str, str]]  # images that could not be used: {"name", "reason"}
    duplicates: int  # images that share a group with an earlier one
    fingerprint: str  # SHA-256 of the array's bytes, hex
    image_size: int  # pixels

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Manifest":
        """Raises TypeError or ValueError when a field is missing, unknown or of another type."""
        manifest = cls(**data)
        for field in fields(cls):
            value = getattr(manifest, field.name)
            expected = field.type if isinstance(field.type, type) and field.type in (int, str) else list
            if not isinstance(value, expected):
                raise ValueError(f"manifest: {field.name} is {value!r}")
        return manifest
