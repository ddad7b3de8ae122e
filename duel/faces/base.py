"""What a source of images is, and what all kinds of them share."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from duel.errors import UsageError
from duel.faces.decode import EXTENSIONS, UnusableImage
from duel.faces.limits import LONGEST_NAME, MAXIMUM_BYTES, MAXIMUM_IMAGES
from duel.output import printable

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TABLE_SUFFIXES = (".parquet", ".pq")
_ENDINGS = 1000  # kinds of other files that are told apart


@dataclass(frozen=True)
class Read:
    """A call that returns an image file's bytes. It may come from another thread.

    It raises OSError and the like, or UnusableImage.
    """

    size: int  # bytes, of the memory that the call takes; or that waiting for it takes already
    held: bool  # whether it does
    call: Callable[[], bytes]

    def __call__(self) -> bytes:
        """Its bytes."""
        return self.call()


def held(data: bytes) -> Read:
    """The read of what had to be read by now."""
    return Read(len(data), True, lambda: data)


def refused(error: Exception) -> Read:
    """The read that raises."""

    def fail() -> bytes:
        raise error

    return Read(0, True, fail)


class Source(Protocol):
    """A set of image files."""

    kind: str

    @property
    def names(self) -> Sequence[str]:
        """Every image found, in a fixed order."""

    @property
    def ignored(self) -> int:
        """How many other files there were."""

    @property
    def column(self) -> str:
        """The column that the images are from; "" where there are none."""

    @property
    def archives(self) -> Sequence[str]:
        """Of a folder: its files that the images are from, where those are no images themselves."""

    @property
    def passed_over(self) -> Sequence[str]:
        """Of a folder: files that may hold images and were not read, with the reason."""

    @property
    def unreachable(self) -> Sequence[dict[str, str]]:
        """Folders and archives that could not be looked into, {"name", "reason"}; known once `names` is."""

    def identity(self) -> Any:
        """What changes when the source does (JSON-able, cheap); the cache's key hashes it."""

    def check(self) -> None:
        """Raise UsageError if the source holds no image or cannot be read; stops at the first image."""

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, what returns the bytes) for ascending `indices`."""


class Archive:
    """What a source has that is one file."""

    ignored = 0
    archives: Sequence[str] = ()
    passed_over: Sequence[str] = ()
    unreachable: Sequence[dict[str, str]] = ()

    def __init__(self, path: Path) -> None:
        self.path = path

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        return file_identity(self.path)


class NoImages(UsageError):
    """A source without images."""


class BrokenArchive(UsageError):
    """An archive that cannot be read; lasting: it is broken, rather than kept from us by the system."""

    def __init__(self, path: Path, kind: str, error: Exception | str) -> None:
        self.reason = f"cannot be read as {kind}: {printable(str(error))[:200] or type(error).__name__}"
        self.lasting = not (isinstance(error, OSError) and error.errno is not None)
        super().__init__(f"--faces {printable(str(path))!r} {self.reason}")


def is_image_name(name: str) -> bool:
    """Whether the name ends like an image's; macOS's ._ companions and hidden files do not count."""
    return not name.rsplit("/", 1)[-1].startswith(".") and ending(name) in EXTENSIONS


def ending(name: str) -> str:
    """.jpg of Folder/IMAGE.JPG; nothing where there is no ending."""
    base = name.rsplit("/", 1)[-1]
    dot = base.rfind(".")
    return base[dot:].lower() if dot > 0 else ""


def count_ending(seen: Counter[str], name: str) -> None:
    """Count the ending of a file's name; odd and ever more endings are counted as one."""
    kind = ending(name)
    seen[kind if len(kind) <= 20 and (kind in seen or len(seen) < _ENDINGS) else "others"] += 1


def endings(names: Iterable[str]) -> Counter[str]:
    """How often each ending occurs."""
    seen: Counter[str] = Counter()
    for name in names:
        count_ending(seen, name)
    return seen


def short(name: str) -> str:
    """The name of an image in an archive, printable and no longer than names are."""
    return printable(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...")


def file_identity(path: Path) -> list[Any]:
    """Resolved path, size in bytes and time of the last change."""
    about = path.stat()
    return [printable(str(path.resolve())), about.st_size, about.st_mtime_ns]


def no_images(path: Path, seen: Counter[str], unreachable: Sequence[dict[str, str]] = ()) -> NoImages:
    """The error for a source without images; seen: endings of its other files."""
    unseen = "".join(f"; {each['name']}: {each['reason']}" for each in unreachable[:5])
    kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in seen.most_common(5))
    return NoImages(
        f"--faces {printable(str(path))!r}: found no images (other files: {kinds or 'none'}{unseen}); "
        f"allowed endings: {' '.join(sorted(EXTENSIONS))}"
    )


def require_fewer(path: Path, images: int) -> None:
    """Raise UsageError for more images than duel keeps the names of."""
    if images > MAXIMUM_IMAGES:
        raise UsageError(
            f"--faces {printable(str(path))!r} has more than {MAXIMUM_IMAGES:,} images; give a part of them"
        )


def too_large(size: int) -> UnusableImage:
    """The reason to skip a file of that many bytes."""
    return UnusableImage(f"{size:,} bytes; at most {MAXIMUM_BYTES:,} are read")
