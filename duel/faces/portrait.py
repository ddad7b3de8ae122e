"""A person, from the background to the glasses, painted back to front."""

from collections.abc import Callable

import numpy as np

from duel.faces.canvas import Array, Canvas, Dice, ellipse, rgb, turned

SKINS = rgb("ffe3d3", "f6cfb4", "edbb94", "d9a077", "bf8358", "96603d", "6d4329", "4a2d1f")
HAIRS = rgb("15110f", "241a15", "3b271b", "553621", "7a4f2c", "9a7144", "bd9a66", "d8c295")
GREYS = rgb("4a4a4c", "8d8c8b", "c9c7c4", "ecebe8")
DYES = rgb("8e2f1f", "b3422a", "c2467d", "5a4bb0", "2f7fa8", "3a8a5c")
IRISES = rgb("2b1a10", "4a2d18", "6b4a24", "5d6b36", "4d7a63", "4f7f9e", "7ba3c4", "8a949b")
LIPS = rgb("b0524c", "c4675f", "a23c45", "8b3a37", "cf7d78")
CLOTHES = rgb("1d2733", "7a1f2b", "e8e6df", "2f5d50", "c28f2c", "3b4f8a", "d8a4ad", "55504a", "101012", "b5492f")
WALLS = rgb("dfe3e6", "8fa9bd", "3f5468", "8d7b6a", "d8c7a8", "7f9a74", "2c2f33", "b98f86", "f4f2ee", "5b6d8f")


class Person:
    """Everything about a face that two parts of it must agree on; numbers are [n, 1, 1], in face units."""

    def __init__(self, dice: Dice) -> None:
        self.turn = dice.around(0.0, 0.62)  # radians, positive to the viewer's right
        self.nod = dice.around(0.0, 0.16)
        self.width = dice.around(0.76, 0.09)
        self.jaw = dice.between(0.06, 0.34)  # how much the head narrows towards the chin
        tone = dice.between(0.0, 1.0)
        self.skin = dice.colour(SKINS, 0.035, tone)
        # Dark skin mostly comes with dark hair, and dark hair is the most common everywhere.
        fair = dice.between(0.0, 1.0) ** 1.5 * (1.0 - 0.8 * tone)
        natural, grey, dyed = dice.colour(HAIRS, 0.03, fair), dice.colour(GREYS, 0.02), dice.colour(DYES, 0.05)
        is_grey, is_dyed = dice.chance(0.14)[:, None], dice.chance(0.05)[:, None]
        self.hair = natural * (1 - is_grey) + grey * is_grey
        self.hair = self.hair * (1 - is_dyed) + dyed * is_dyed
        self.long = dice.chance(0.45)
        self.bald = dice.chance(0.09) * (1 - self.long)
        self.light_x = dice.around(0.0, 0.95)
        self.light_y = dice.around(-0.45, 0.5)
        self.light = dice.between(0.25, 0.75)  # 0 is flat light
        self.eye_height = dice.around(-0.08, 0.06) + self.nod
        self.eye_apart = dice.around(0.335, 0.045)

    def rows(self, rows: Array) -> "Person":
        """Some of the people."""
        some = object.__new__(Person)
        some.__dict__.update({name: value[rows] for name, value in vars(self).items()})
        return some

    def place(self, x: Array | float, depth: float = 0.0) -> tuple[Array, Array]:
        """Where a point of the turned head at x is seen, and how much narrower it looks there.

        depth: how far it stands out of the face.
        """
        angle = np.arcsin(np.clip(x / self.width, -0.95, 0.95)) + self.turn
        return (self.width + depth) * np.sin(angle), np.clip(np.cos(angle), 0.3, 1.0)


def draw_person(canvas: Canvas, dice: Dice) -> None:
    """Paint one person on each picture."""
    person = Person(dice.part())
    _background(canvas, person, dice.part())
    _for_some(person.long, _hair_behind, canvas, person, dice.part())
    _body(canvas, person, dice.part())
    _head(canvas, person, dice.part())
    beard = dice.part()
    _for_some(beard.chance(0.24) * beard.chance(1.0 - 0.85 * person.long), _beard, canvas, person, beard)
    _nose(canvas, person, dice.part())
    _mouth(canvas, person, dice.part())
    _eyes(canvas, person, dice.part())
    _for_some(1.0 - person.bald, _hair_in_front, canvas, person, dice.part())
    glasses = dice.part()
    _for_some(glasses.chance(0.22), _glasses, canvas, person, glasses)


def _for_some(chosen: Array, draw: Callable[[Canvas, Person, Dice], None], canvas: Canvas, person: Person, dice: Dice) -> None:
    """Draw a part on the pictures where chosen [n, 1, 1] is not 0."""
    rows = np.nonzero(chosen[:, 0, 0])[0]
    if len(rows):
        some = canvas.rows(rows)
        draw(some, person.rows(rows), dice.rows(rows))
        canvas.pixels[rows] = some.pixels


def _background(canvas: Canvas, person: Person, dice: Dice) -> None:
    """A wall that changes colour across the picture, with a soft spot of light or a dark shape on it."""
    one, other = dice.colour(WALLS, 0.08), dice.colour(WALLS, 0.08)
    other = one + (other - one) * dice.between(0.1, 0.8)[:, None]
    angle = dice.between(0.0, 6.2832)
    across = np.clip(0.5 + 0.38 * (canvas.x * np.cos(angle) + canvas.y * np.sin(angle)), 0.0, 1.0)
    canvas.pixels[:] = one + (other - one) * across[:, None]
    for _ in range(2):
        spot = dice.part(16)
        _for_some(spot.chance(0.55), _spot, canvas, person, spot)


def _spot(canvas: Canvas, _: Person, dice: Dice) -> None:
    shape = canvas.ellipse(
        dice.between(-1.6, 1.6), dice.between(-1.5, 1.2), dice.between(0.25, 0.9), dice.between(0.25, 1.2)
    )
    canvas.paint(canvas.soft(shape, dice.between(0.05, 0.5)) * dice.between(0.15, 0.6), dice.colour(WALLS, 0.1))


def _strands(canvas: Canvas, dice: Dice) -> Array:
    """Brightness of hair, about 1: strands and a sheen."""
    curl = dice.between(0.0, 2.5)
    run = dice.between(7.0, 16.0) * (canvas.x + 0.25 * canvas.x * canvas.y)
    wave = np.sin(run + curl * np.sin(dice.between(4.0, 9.0) * canvas.y + dice.between(0.0, 6.3)))
    sheen = np.clip(1.0 - np.abs(canvas.y + dice.between(0.55, 0.95)) / 0.35, 0.0, 1.0)
    return 1.0 + dice.between(0.03, 0.18) * wave + dice.between(0.0, 0.35) * sheen


def _hair_colour(canvas: Canvas, person: Person, dice: Dice) -> Array:
    lit = 1.0 + 0.35 * person.light * np.clip(canvas.x * person.light_x + canvas.y * person.light_y, -1.0, 1.0)
    return np.clip(person.hair * (_strands(canvas, dice) * lit)[:, None], 0.0, 1.0)


def _ragged(canvas: Canvas, dice: Dice, most: Array | float) -> Array:
    """An uneven edge for hair, face units."""
    first = np.sin(dice.between(4.0, 18.0) * (canvas.x + 0.6 * canvas.y) + dice.between(0.0, 6.3))
    second = np.sin(dice.between(5.0, 20.0) * (canvas.y - 0.7 * canvas.x) + dice.between(0.0, 6.3))
    return most * (first + second)


def _hair_behind(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Long hair falls beside the neck; its end and width vary."""
    end, spread = dice.between(0.55, 1.7), dice.between(0.1, 0.34)
    y = np.maximum(canvas.y, -0.15)
    fall = np.abs(canvas.x + 0.1 * person.turn) - (person.width + spread + dice.around(0.0, 0.22) * (y + 0.15))
    crown = canvas.ellipse(-0.1 * person.turn, np.float32(-0.15), person.width + spread, 0.9 + 0.5 * spread)
    shape = np.where(canvas.y < -0.15, crown, np.maximum(fall, canvas.y - end)) + _ragged(canvas, dice, dice.between(0.0, 0.04))
    dark = 0.72 * _hair_colour(canvas, person, dice)
    canvas.paint(canvas.cover(shape), dark)


def _body(canvas: Canvas, person: Person, dice: Dice) -> None:
    neck = np.abs(canvas.x - 0.12 * person.turn) - dice.between(0.3, 0.46) * (1 + 0.25 * np.maximum(canvas.y - 0.9, 0))
    neck = np.maximum(neck, 0.4 - canvas.y)
    below = np.clip(1.45 - canvas.y, 0.0, 1.0)  # the chin's shadow
    canvas.paint(canvas.cover(neck), person.skin * (0.86 - 0.45 * below)[:, None])
    rise, wide = dice.between(1.12, 1.4), dice.between(1.0, 1.7)
    shoulders = canvas.ellipse(0.0 * rise, rise + 0.95, wide, np.float32(0.95))
    opening = canvas.ellipse(0.12 * person.turn, rise - 0.02, dice.between(0.15, 0.5), dice.between(0.1, 0.5))
    cloth = dice.colour(CLOTHES, 0.08)
    cloth = cloth * (0.85 + 0.25 * np.clip(canvas.x * person.light_x, -1, 1) * person.light)[:, None]
    canvas.paint(canvas.cover(np.maximum(shoulders, -opening)), cloth)


def _head(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Ears and the lit head."""
    lobe_y, size = dice.around(0.02, 0.06) + 0.5 * person.nod, dice.between(0.13, 0.2)
    for side in (-1.0, 1.0):
        x = side * person.width * 1.0 - 0.16 * person.turn
        hidden = 1.0 - np.clip(side * person.turn * 3.0 - 0.6, 0.0, 1.0)  # turned away
        part = canvas.window(x, lobe_y, 0.3)
        ear = part.ellipse(x, lobe_y, 0.62 * size * hidden + 0.01, 1.3 * size)
        part.paint(part.cover(ear), person.skin * 0.86)
        part.paint(part.soft(ear + 0.07, 0.08) * 0.35, person.skin * 0.5)
        part.paste()
    lower = np.clip(canvas.y, 0.0, 1.0)
    width = person.width * (1.0 - person.jaw * lower * lower)
    across, down = canvas.x / width, canvas.y
    head = ellipse(canvas.x, canvas.y, width, np.float32(1.0))
    outward = np.sqrt(np.clip(1.0 - across * across - down * down, 0.0, 1.0))
    facing = across * person.light_x + down * person.light_y + 0.75 * outward
    shade = 1.0 + person.light * (0.62 * facing - 0.45) - 0.12 * (1.0 - outward)
    lit = person.skin * shade[:, None]
    red = np.float32([0.04, -0.02, -0.02])[None, :, None, None] * dice.between(0.0, 2.0)[:, None]
    canvas.paint(canvas.cover(head), lit)
    for side in (-1.0, 1.0):
        x, narrow = person.place(side * 0.42)
        part = canvas.window(x, 0.28 + person.nod, 0.46)
        cheek = part.ellipse(x, 0.28 + person.nod, 0.24 * narrow, np.float32(0.2))
        part.pixels += (part.soft(cheek, 0.35) * part.cover(_outline(part, person)))[:, None] * red
        part.paste()


def _outline(canvas: Canvas, person: Person) -> Array:
    """Signed distance to the head, narrower towards the chin."""
    lower = np.clip(canvas.y, 0.0, 1.0)
    return ellipse(canvas.x, canvas.y, person.width * (1.0 - person.jaw * lower * lower), np.float32(1.0))


def _beard(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Stubble to full beard, with or without a moustache."""
    x, _ = person.place(0.0)
    top = 0.3 + person.nod + dice.between(0.0, 0.3) - 0.35 * np.abs(canvas.x - x)
    region = np.maximum(_outline(canvas, person) - dice.between(0.0, 0.1), top - canvas.y)
    mouth = canvas.ellipse(x, 0.52 + person.nod, np.float32(0.2), np.float32(0.1))
    region = np.maximum(region, -mouth + 0.02)
    tip = dice.between(-0.1, 0.45)  # a goatee leaves the cheeks free
    region = np.maximum(region, np.abs(canvas.x - x) - 0.35 - tip)
    cover = canvas.soft(region, dice.between(0.06, 0.2)) * dice.between(0.3, 0.95)
    canvas.paint(cover, 0.8 * person.hair + 0.1 * person.skin)


def _nose(canvas: Canvas, person: Person, dice: Dice) -> None:
    length, broad = dice.between(0.28, 0.4), dice.between(0.085, 0.16)
    root, _ = person.place(0.0)
    tip, _ = person.place(0.0, depth=0.14)
    tip_y = person.eye_height + length + 0.6 * person.nod
    part = canvas.window(0.5 * (root + tip), tip_y - 0.12, 0.42)
    along = np.clip((part.y - person.eye_height) / (tip_y - person.eye_height), 0.0, 1.0)
    centre = root + (tip - root) * along
    half = broad * (0.35 + 0.65 * along * along)
    ridge = np.maximum(np.abs(part.x - centre) - half, np.abs(part.y - tip_y + 0.5 * length) - 0.5 * length)
    side = np.clip((part.x - centre) / half * np.sign(person.light_x + 1e-6) * -1.0, 0.0, 1.0)
    body = part.soft(ridge, 0.09)
    part.shade(body * side * (0.2 + 0.3 * person.light * np.abs(person.light_x)) * along)
    bulb = part.soft(part.ellipse(tip, tip_y - 0.03, broad, 0.75 * broad), 0.1)
    part.pixels *= 1.0 + 0.1 * bulb[:, None]
    under = part.ellipse(tip, tip_y + 0.045, 1.15 * broad, np.float32(0.05))
    part.shade(part.soft(under, 0.07) * 0.28)
    for side_x in (-1.0, 1.0):
        hole = part.ellipse(tip + side_x * 0.5 * broad, tip_y + 0.03, 0.28 * broad, np.float32(0.028))
        part.shade(part.cover(hole) * 0.55)
    part.paste()


def _mouth(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Lips along a curve; a smile bends it, an open mouth shows dark and teeth."""
    x, narrow = person.place(0.0, depth=0.06)
    y = person.eye_height + dice.around(0.6, 0.05) + 0.5 * person.nod
    half = dice.between(0.19, 0.33) * narrow
    smile, gape = dice.between(-0.05, 0.16), np.maximum(dice.between(-0.12, 0.16), 0.0)
    upper, lower = dice.between(0.025, 0.055), dice.between(0.035, 0.075)
    part = canvas.window(x, y, 0.5)
    along = np.clip((part.x - x) / half, -1.2, 1.2)
    arch = 1.0 - along * along
    line = y + smile * (arch - 0.6)
    height = part.y - line
    bow = 1.0 - 0.3 * np.exp(-((along / 0.22) ** 2))
    top, bottom = upper * arch * bow + 0.45 * gape * arch, lower * arch + 0.9 * gape * arch
    lips = np.maximum(-height - top, height - bottom)
    natural = 0.55 * person.skin * np.float32([1.0, 0.72, 0.72])[None, :, None, None]
    painted = dice.chance(0.35)[:, None] * dice.between(0.3, 0.9)[:, None]
    colour = (natural + 0.1) * (1 - painted) + dice.colour(LIPS, 0.05) * painted
    part.paint(part.cover(lips) * 0.9, colour)
    part.pixels += 0.1 * part.soft(np.abs(height - 0.6 * bottom) - 0.01, 0.05)[:, None] * part.cover(lips)[:, None]
    hollow = np.maximum(-height - 0.45 * gape * arch, height - 0.9 * gape * arch)
    inside = part.cover(hollow) * (gape > 0.01)
    part.paint(inside, np.float32([0.22, 0.07, 0.07])[None, :, None, None])
    teeth = np.maximum(hollow, height - (0.25 + 0.5 * dice.chance(0.6)) * gape * arch)
    part.paint(part.cover(teeth) * (gape > 0.02), np.float32([0.93, 0.91, 0.86])[None, :, None, None])
    part.shade(part.cover(np.abs(height) - 0.008) * part.cover(np.abs(along) - 0.95) * (gape <= 0.02) * 0.5)
    part.shade(part.soft(part.ellipse(x, y + 0.17, 0.6 * half, np.float32(0.04)), 0.08) * 0.16)
    part.paste()


def _eyes(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Both eyes with their brows: one set of choices, seen from two sides."""
    width, slant = dice.between(0.12, 0.17), dice.around(0.0, 0.22)
    up, down = dice.between(0.035, 0.085), dice.between(0.025, 0.05)
    shut = dice.chance(0.04)
    up, down = up * (1 - shut) + 0.004 * shut, down * (1 - shut) + 0.012 * shut
    look_x, look_y = dice.around(0.0, 0.6) + 0.3 * person.turn, dice.around(0.0, 0.35)
    iris, round_ = dice.colour(IRISES, 0.04), dice.between(0.062, 0.078)
    brow = (dice.between(0.13, 0.22), dice.between(0.018, 0.05), dice.around(0.0, 0.35), dice.between(0.0, 0.06))
    brow_colour = person.hair * dice.between(0.5, 0.95)[:, None] * 0.8 + 0.2 * person.skin * 0.5
    shadow, lash = dice.between(0.05, 0.4), dice.between(0.3, 1.0)
    white = np.float32([0.95, 0.94, 0.93])[None, :, None, None] * dice.between(0.82, 1.0)[:, None]
    for side in (-1.0, 1.0):
        x, narrow = person.place(side * person.eye_apart)
        y = person.eye_height
        part = canvas.window(x, y - 0.07, 0.36)
        socket = ellipse(part.x - x, part.y - y + 0.04, 0.22 * narrow, np.float32(0.13))
        part.shade(part.soft(socket, 0.16) * shadow)
        dx, dy = turned(part.x - x, part.y - y, side * slant)
        along = np.clip(dx / (width * narrow), -1.15, 1.15)
        arch = 1.0 - along * along
        opening = np.maximum(-dy - up * arch, dy - down * arch)
        inside = part.cover(opening)
        part.paint(inside, white)
        gaze_x, gaze_y = dx - look_x * 0.09, dy - look_y * 0.05
        part.paint(inside * part.cover(ellipse(gaze_x, gaze_y, round_ * narrow, round_)), iris)
        part.paint(inside * part.cover(ellipse(gaze_x, gaze_y, 0.45 * round_ * narrow, 0.45 * round_)), 0.1 * iris)
        gleam = ellipse(gaze_x - 0.025 * np.sign(person.light_x), gaze_y + 0.025, np.float32(0.018), np.float32(0.018))
        part.paint(inside * part.cover(gleam) * 0.9, np.ones_like(iris))
        lid = np.maximum(np.abs(dy + up * arch) - 0.013, np.abs(dx) - 1.02 * width * narrow)
        part.paint(part.cover(lid) * lash, 0.25 * person.skin)
        _brow(part, x, y, narrow, side, brow, brow_colour)
        part.paste()


def _brow(
    part: Canvas, x: Array, y: Array, narrow: Array, side: float, shape: tuple[Array, ...], colour: Array
) -> None:
    height, thick, tilt, arch = shape
    dx, dy = turned(part.x - x, part.y - y + height, side * tilt)
    along = np.clip(dx / (0.2 * narrow), -1.3, 1.3)
    middle = dy + arch * (1.0 - along * along)
    taper = thick * (1.0 - 0.35 * side * along)
    stroke = np.maximum(np.abs(middle) - taper, np.abs(dx) - 0.2 * narrow)
    part.paint(part.soft(stroke, 0.035) * 0.9, colour)


def _hair_in_front(canvas: Canvas, person: Person, dice: Dice) -> None:
    """The cap of hair over the skull, down to a hairline with a parting or a fringe."""
    thick, lift = dice.between(0.02, 0.16), dice.between(0.0, 0.26) * dice.between(0.0, 1.0)
    sides = thick * (0.35 + 0.65 * person.long) + 0.015
    cap = ellipse(canvas.x + 0.08 * person.turn, canvas.y + 0.5 * lift, person.width + sides, 1.0 + 0.6 * lift + thick)
    x, _ = person.place(0.0)
    part_at = x + dice.around(0.0, 0.55)
    line = dice.around(-0.6, 0.22) + 0.6 * person.nod
    sweep, temple = dice.around(0.0, 0.4), dice.between(0.1, 1.1)
    reach = np.abs(canvas.x - part_at) * sweep + temple * (canvas.x - x) ** 2
    fringe = dice.chance(0.25) * dice.between(0.1, 0.36)
    hairline = line + reach + fringe * (1.0 - np.clip(np.abs(canvas.x - x), 0, 1))
    sideburn = dice.between(-0.25, 0.35) * (1 - person.long) + person.long * dice.between(0.2, 1.2)
    below = np.maximum(canvas.y - hairline, canvas.y - sideburn)
    curls = dice.between(0.0, 1.0) ** 2 * 0.05
    hair = np.maximum(cap + _ragged(canvas, dice, curls), below + _ragged(canvas, dice, 0.6 * curls + 0.015))
    canvas.shade(canvas.soft(hair - 0.05, 0.14) * canvas.cover(_outline(canvas, person)) * 0.25)
    canvas.paint(canvas.cover(hair), _hair_colour(canvas, person, dice))


def _glasses(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Frames from round to square, clear or dark lenses."""
    dark = dice.chance(0.15)
    wide, high = dice.between(0.2, 0.27), dice.between(0.14, 0.23)
    frame, square = dice.between(0.012, 0.032), dice.between(0.0, 0.75)
    colour = dice.colour(rgb("101012", "2b1c14", "5d3a1e", "8c8c90", "b08a3c", "6e1f2a"), 0.04)
    glass = dark * 0.88 + (1 - dark) * 0.1
    tint = (1 - dark)[:, None] * 0.8 + 0.08
    y = person.eye_height + 0.02
    for side in (-1.0, 1.0):
        x, narrow = person.place(side * person.eye_apart * 1.02, depth=0.05)
        dx, dy = np.abs(canvas.x - x), np.abs(canvas.y - y)
        oval = ellipse(dx, dy, wide * narrow, high)
        box = np.maximum(dx - 0.92 * wide * narrow, dy - 0.86 * high)
        lens = oval * (1 - square) + box * square
        canvas.paint(canvas.cover(lens) * glass, tint)
        canvas.paint(canvas.cover(np.abs(lens) - frame), colour)
        edge = x + side * wide * narrow
        arm = np.maximum(np.abs(canvas.y - y + 0.03) - 0.8 * frame, side * (edge - canvas.x))
        arm = np.maximum(arm, side * canvas.x - person.width * 1.0)
        canvas.paint(canvas.cover(arm), colour)
    left, _ = person.place(-person.eye_apart, depth=0.05)
    right, _ = person.place(person.eye_apart, depth=0.05)
    bridge = np.maximum(np.abs(canvas.y - y + 0.04) - frame, np.abs(canvas.x - 0.5 * (left + right)) - 0.13)
    canvas.paint(canvas.cover(bridge), colour)
