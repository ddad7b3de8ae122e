"""What is known about a set of faces besides its pixels."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Manifest:
    """Where the faces came from and what became of each file."""

    source: str  # as the user named it
    kind: str  # folder, zip, tar, parquet or drawn
    found: int  # images found in the source
    used: int  # images in the array
    ignored: int  # other files in the source, by their names no images
    skipped: list[dict[str, str]]  # unusable images, folders and archives not looked into: {"name", "reason"}
    duplicates: int  # images that share a group with an earlier one
    fingerprint: str  # SHA-256 of the array's bytes, hex
    image_size: int  # pixels
    column: str = ""  # of a parquet file: the one that the images are from
    unreadable: list[str] = field(default_factory=list)  # skipped, but not broken: reading them failed
    archives: list[str] = field(default_factory=list)  # of a folder: the files in it that the images are from
    passed_over: list[str] = field(default_factory=list)  # files in it that may hold images and were not read, and why

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Manifest":
        """Raises TypeError or ValueError when a field is missing, unknown or of another type."""
        manifest = cls(**data)
        for each in fields(cls):
            value = getattr(manifest, each.name)
            expected = each.type if isinstance(each.type, type) and each.type in (int, str) else list
            if not isinstance(value, expected):
                raise ValueError(f"manifest: {each.name} is {value!r}")
        for item in manifest.skipped:
            if not (
                isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("reason"), str)
            ):
                raise ValueError(f"manifest: skipped has {item!r}")
        return manifest
