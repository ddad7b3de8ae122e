"""What the check has found so far, in one file that is whole at any moment."""

import json
import os
import time
from pathlib import Path
from typing import Any


class Results:
    """OUT/results.json: nested dicts of figures, written anew with each figure; lines go to the terminal too."""

    def __init__(self, out: Path) -> None:
        self.failed = False  # whether an "error" was among the figures
        self._path = out / "results.json"
        out.mkdir(parents=True, exist_ok=True)

    def add(self, part: str, name: str, /, **figures: Any) -> None:
        """Keep the figures of a part under a name, and say them."""
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.failed |= "error" in figures
        known.setdefault(part, {})[name] = figures
        draft = self._path.with_suffix(".partial")
        draft.write_text(json.dumps(known, indent=1))
        os.replace(draft, self._path)
        shown = ", ".join(f"{key} {_short(value)}" for key, value in figures.items())
        print(f"{time.strftime('%H:%M:%S')} {part} {name}: {shown}", flush=True)


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
