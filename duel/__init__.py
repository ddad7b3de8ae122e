"""duel: a league in which generators of faces meet detectors of fakes."""

__version__ = "0.1.0"
