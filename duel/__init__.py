"""duel: a league in which generators of faces meet detectors of fakes."""

import os

# Under `uv run` Ray would start its workers by uv, in an uploaded folder, and wait for them in silence. It reads this
# as it is imported, so it stands here, before any import of Ray.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

__version__ = "0.1.0"
