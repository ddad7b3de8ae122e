"""What a user typed as a place -> an absolute path, once, where it enters; UsageError where it can't be one."""

import os
import re
from pathlib import Path

from duel.errors import UsageError

URI = re.compile(r"[a-z][a-z0-9+.-]*:/|.*://", re.IGNORECASE)  # with one slash too: s3:/bucket is a slip, no folder
SECRET = re.compile(r"key|secret|token|password|sig", re.IGNORECASE)  # in the name of a URI's setting
_INSTALLED = Path(__file__).resolve().parent / "sweeps"  # pyproject.toml puts them there in a wheel
SWEEPS = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "sweeps"
STORAGE = "a folder or a URI such as s3://bucket/folder"


def out_folder(typed: str | Path) -> Path:
    """--out: a folder of this machine."""
    return local(
        "--out", typed, "a folder of this machine; it is --storage that takes a URI, for a copy of the run", utf8=True
    )


def sweep_file(typed: str | Path) -> Path:
    """--sweep: a file of this machine, else the sweep of this name that comes with duel.

    UsageError for a plain word that is neither.
    """
    path = local("--sweep", typed, "a sweep file of this machine, or the name of one that comes with duel")
    if os.fspath(typed) != Path(typed).stem or os.path.isfile(path):  # with a folder or an ending it is no name
        return path
    if typed in own_sweeps():
        return SWEEPS / f"{typed}.yaml"
    if os.path.lexists(path):
        return path
    names = ", ".join(own_sweeps())
    raise UsageError(f"--sweep {typed!r}: no such file here; sweeps that come with duel are {names}")


def own_sweeps() -> list[str]:
    """Names of the sweeps that come with duel."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def faces_source(typed: str) -> str:
    """--faces: 'drawn' as it is, else the path of a folder or file of this machine."""
    allowed = "'drawn', or a folder or file of this machine; download or mount first what lies elsewhere"
    return typed if typed == "drawn" else str(local("--faces", typed, allowed))


def storage_root(typed: str) -> str:
    """--storage: a URI as it is (duel.store.Store opens it, or says why not), else the path of a folder.

    UsageError for one with keys in it: run.json and the report keep the URI.
    """
    if "://" not in typed:
        return str(local("--storage", typed, STORAGE, utf8=True))
    if _has_keys(typed):
        raise UsageError(
            f"--storage {typed.partition('://')[0]}://...: it has keys in it, which run.json and the report would "
            "show; give them as your cloud's tools take them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, the "
            "machine's role), and the URI without them"
        )
    return typed


def _has_keys(uri: str) -> bool:
    """Whether there is a user's key before the host (s3://KEY:SECRET@bucket) or in a setting; a container is none."""
    scheme, _, rest = uri.lower().partition("://")
    place, _, query = rest.partition("?")
    user = place.rpartition("@")[0] if scheme != "file" else ""
    named = any(SECRET.search(setting.partition("=")[0]) for setting in query.split("&"))
    return named or ":" in user or (scheme == "s3" and bool(user) and "/" not in user)


def faces_cache() -> Path:
    """Where decoded faces are kept between runs: $DUEL_CACHE, else duel in the user's cache folder."""
    if typed := os.environ.get("DUEL_CACHE"):
        return local("DUEL_CACHE", typed, "a folder of this machine")
    check_home()
    given = os.environ.get("XDG_CACHE_HOME", "")  # its specification: one that is not absolute does not count
    return Path(given if os.path.isabs(given) else local("DUEL_CACHE", "~/.cache", "a folder")) / "duel"


def check_home() -> None:
    """Raise UsageError where nothing says what ~ is, as for a bare user number in a container: Ray asks for it."""
    if os.path.expanduser("~") == "~":
        raise UsageError(f"HOME is not set, and user {os.getuid()} has no home folder: set HOME to a folder of yours")


def local(name: str, typed: str | Path, allowed: str, utf8: bool = False) -> Path:
    """The absolute path of a file or folder of this machine; a leading ~ is a home folder, as in a shell.

    name: of the flag or variable it came by; allowed: what may stand there; utf8: whether it goes to pyarrow, which
    takes no other names. Raises UsageError for a URI, for nothing, for the home of nobody. Nothing is looked up or
    made; `..` and links stay.
    """
    text = os.fspath(typed)
    current_folder()
    path = os.path.expanduser(text)  # of the text: Path makes ./~ a ~, and s3:// an s3:/
    if not text.strip():
        fault = "names nothing"
    elif URI.match(text):
        fault = "is a URI" if "://" in text else "looks like a URI that lacks a slash"
    elif path.startswith("~"):
        fault = f"there is no such home folder (write ./{text} for a folder of that name)"
    elif utf8 and not is_utf8(str(Path(path).absolute())):
        fault = "its name is not UTF-8"
    else:
        return Path(path).absolute()
    raise UsageError(f"{name} {text!r}: {fault}; must be {allowed}")


def current_folder() -> str:
    """Where this process is. UsageError where that is no more."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current folder has been removed: cd to one that is there") from None


def is_utf8(path: str) -> bool:
    """Whether a path's bytes are UTF-8, which Ray and pyarrow ask for."""
    return path == path.encode(errors="replace").decode()
