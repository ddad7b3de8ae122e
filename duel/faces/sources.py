"""Where faces come from: a folder, a zip, a tar or parquet files, all read the same way.

A source lists its images once and hands out their bytes; nothing is ever extracted to disk, so names
such as ../../etc/passwd inside an archive are only names.
"""

import stat
from pathlib import Path

from duel.errors import UsageError
from duel.faces.base import Source
from duel.faces.folder import FolderSource, archive_kind
from duel.faces.shards import open_archive, open_shards
from duel.output import printable

ALLOWED = "'drawn', a folder of images or of archives of them, a .zip, a .tar (.gz, .bz2, .xz) or a .parquet file"
STRAY = 200  # with fewer images beside archives, they are no set of faces


def open_source(source: str) -> Source:
    """Find out what kind of source a path is. Raises UsageError when it is none."""
    path, shown = Path(source), repr(printable(source))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--faces {shown}: {reason}; allowed: {ALLOWED}") from None
    if not source:
        raise UsageError(f"--faces '': an empty name; allowed: {ALLOWED}")
    if stat.S_ISDIR(mode):
        return _open_folder(path)
    if not stat.S_ISREG(mode):
        raise UsageError(f"--faces {shown} is neither a file nor a folder; allowed: {ALLOWED}")
    kind = archive_kind(path.name)
    if not kind:
        raise UsageError(f"--faces {shown} is a file of an unknown kind; allowed: {ALLOWED}")
    return open_archive(kind, path)


def _open_folder(path: Path) -> Source:
    """The images in the folder; where there are none, or only a few strays, its archives instead."""
    folder = FolderSource(path)
    if folder.holds(STRAY):
        return folder
    return open_shards(folder) or folder
