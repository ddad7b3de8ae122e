"""A batch of pictures to draw on, and the few shapes faces are made of.

Every shape is a signed distance in face units turned into coverage over one pixel, so edges are
antialiased at any size. Arrays are float32; one number a picture has shape [n, 1, 1], a colour
[n, 3, 1, 1] in 0..1, a value a pixel [n, S, S].
"""

import numpy as np

Array = np.ndarray
Number = np.ndarray | float
LARGEST_SCALE = 0.93  # of a head: 1 is half the picture


class Dice:
    """Random choices for n pictures, each picture from its own row of uniform numbers."""

    def __init__(self, uniform: Array) -> None:
        self._uniform = uniform  # [n, choices]
        self._next = 0

    def _roll(self) -> Array:
        self._next += 1
        return self._uniform[:, self._next - 1, None, None]

    def part(self, choices: int = 64) -> "Dice":
        """Dice of its own for one part of the face, so that parts do not depend on each other."""
        self._next += choices
        return Dice(self._uniform[:, self._next - choices : self._next])

    def rows(self, rows: Array) -> "Dice":
        """The same dice for some of the pictures."""
        return Dice(self._uniform[rows, self._next :])

    def between(self, low: float, high: float) -> Array:
        """Evenly between low and high."""
        return low + (high - low) * self._roll()

    def around(self, middle: float, spread: float) -> Array:
        """Bell-shaped between middle - spread and middle + spread."""
        return middle + spread * (self._roll() + self._roll() + self._roll() - 1.5) / 1.5

    def chance(self, probability: Number) -> Array:
        """1.0 with the probability, else 0.0."""
        return (self._roll() < probability).astype(np.float32)

    def colour(self, palette: Array, jitter: float, place: Array | None = None) -> Array:
        """A mixture of two neighbouring rows of palette [k, 3], slightly off: [n, 3, 1, 1] in 0..1.

        place: where in the palette, 0..1 (default: anywhere).
        """
        place = (self._roll() if place is None else place)[:, 0, 0] * (len(palette) - 1)
        row = np.clip(place.astype(int), 0, len(palette) - 2)
        part = (place - row)[:, None]
        mixed = palette[row] * (1 - part) + palette[row + 1] * part
        off = np.stack([self._roll()[:, 0, 0] for _ in range(3)], axis=1) - 0.5
        return np.clip(mixed + 2 * jitter * off, 0.0, 1.0)[:, :, None, None].astype(np.float32)


class Canvas:
    """n square pictures with the face's own coordinates: x right, y down, the head about 1 high each way."""

    def __init__(self, pixels: Array, x: Array, y: Array, unit: Array) -> None:
        self.pixels = pixels  # [n, 3, S, S]
        self.x, self.y = x, y  # [n, S, S], face units
        self.unit = unit  # pixels a face unit, [n, 1, 1]

    def cover(self, distance: Array) -> Array:
        """Signed distance (negative inside, face units) -> coverage 0..1 with an edge one pixel wide."""
        return self.soft(distance, 1.0 / self.unit)

    def soft(self, distance: Array, width: Number) -> Array:
        """Coverage with an edge `width` face units wide."""
        coverage = distance * np.float32(-1.0 / width)
        coverage += np.float32(0.5)
        return np.clip(coverage, 0.0, 1.0, out=coverage)

    def paint(self, coverage: Array, colour: Array) -> None:
        """Lay a colour over the pictures where coverage [n, S, S] is not 0."""
        step = colour - self.pixels
        step *= coverage[:, None]
        self.pixels += step

    def shade(self, amount: Array) -> None:
        """Multiply by 1 - amount [n, S, S]."""
        self.pixels *= (1.0 - amount)[:, None]

    def ellipse(self, cx: Number, cy: Number, rx: Number, ry: Number) -> Array:
        """Signed distance to an ellipse, exact enough near its edge."""
        return ellipse(self.x - cx, self.y - cy, rx, ry)

    def rows(self, rows: Array) -> "Canvas":
        """A copy of some of the pictures."""
        return Canvas(self.pixels[rows], self.x[rows], self.y[rows], self.unit[rows])

    def window(self, cx: Array, cy: Array, half: float) -> "Window":
        """The part of each picture around a point of the face, `half` face units each way at least."""
        return Window(self, cx, cy, half)


class Window(Canvas):
    """A small square cut from each picture; drawing there costs less. paste() puts it back."""

    def __init__(self, whole: Canvas, cx: Array, cy: Array, half: float) -> None:
        size = whole.pixels.shape[-1]
        # Not by the batch's largest head: a face must not depend on its neighbours.
        side = min(size, 2 * int(np.ceil(half * LARGEST_SCALE * size / 2)) + 1)
        column, row = _pixel(whole, cx, cy)
        tops = np.clip(row - side // 2, 0, size - side).tolist()
        lefts = np.clip(column - side // 2, 0, size - side).tolist()
        self._whole = whole
        corners = zip(tops, lefts, strict=True)
        self._cuts = [np.s_[top : top + side, left : left + side] for top, left in corners]
        pixels = np.stack([picture[:, *cut] for picture, cut in zip(whole.pixels, self._cuts, strict=True)])
        x = np.stack([values[cut] for values, cut in zip(whole.x, self._cuts, strict=True)])
        y = np.stack([values[cut] for values, cut in zip(whole.y, self._cuts, strict=True)])
        super().__init__(pixels, x, y, whole.unit)

    def paste(self) -> None:
        """Put the square back into its picture."""
        for picture, cut, drawn in zip(self._whole.pixels, self._cuts, self.pixels, strict=True):
            picture[:, *cut] = drawn


def _pixel(canvas: Canvas, cx: Array, cy: Array) -> tuple[Array, Array]:
    """(column, row) of a point of the face, int [n]; the coordinates are affine in column and row."""
    x, y = canvas.x, canvas.y
    dx, dy = cx[:, 0, 0] - x[:, 0, 0], cy[:, 0, 0] - y[:, 0, 0]
    along = (x[:, 0, 1] - x[:, 0, 0], y[:, 0, 1] - y[:, 0, 0])
    length = along[0] ** 2 + along[1] ** 2
    column, row = (dx * along[0] + dy * along[1]) / length, (dy * along[0] - dx * along[1]) / length
    return np.rint(column).astype(int), np.rint(row).astype(int)


def ellipse(dx: Array, dy: Array, rx: Number, ry: Number) -> Array:
    """Signed distance to an ellipse around the origin (first order: value over slope)."""
    across, down = dx * (1.0 / rx), dy * (1.0 / ry)
    across *= across
    down *= down
    slope = across * (4.0 / (rx * rx))
    slope += down * (4.0 / (ry * ry))
    across += down
    across -= 1.0
    across /= np.sqrt(slope, out=slope) + np.float32(1e-3)
    return across


def turned(dx: Array, dy: Array, angle: Array) -> tuple[Array, Array]:
    """Coordinates in a frame turned by angle (radians)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return dx * cos + dy * sin, dy * cos - dx * sin


def rgb(*colours: str) -> Array:
    """Hex colours -> float32 [k, 3] in 0..1."""
    return np.array([list(bytes.fromhex(colour)) for colour in colours], dtype=np.float32) / 255.0


def mixed(red: float, green: float, blue: float) -> Array:
    """One colour, 0..1, for all pictures: [1, 3, 1, 1]."""
    return np.array([red, green, blue], dtype=np.float32)[None, :, None, None]
