"""Image files for the tests of faces."""

import io

import numpy as np
from PIL import Image


def encode(face: np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    """uint8 [3, S, S] -> an image file's bytes."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(face.transpose(1, 2, 0))).save(file, kind, **options)
    return file.getvalue()
