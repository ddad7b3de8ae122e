"""Settings -> Ray Tune (OptunaSearch, ASHA, resume): one side's trials, run and judged."""

from duel.sweep.run import Outcome, run_sweep
from duel.sweep.trial import Job, read_state

__all__ = ["Job", "Outcome", "read_state", "run_sweep"]
