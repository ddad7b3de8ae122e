"""Real faces: any source -> one uint8 array [N, 3, S, S] with its manifest; disjoint splits; drawn faces."""

from duel.faces.drawn import draw_faces
from duel.faces.load import MINIMUM_FACES, Faces, check_source, load_faces
from duel.faces.manifest import Manifest
from duel.faces.splits import split_faces

__all__ = ["MINIMUM_FACES", "Faces", "Manifest", "check_source", "draw_faces", "load_faces", "split_faces"]
