"""A person on a wall, from the background to the glasses, painted back to front."""

from collections.abc import Callable

import numpy as np

from duel.faces.canvas import Array, Canvas, Dice, ellipse, mixed, rgb, turned
from duel.faces.features import draw_beard, draw_eyes, draw_marks, draw_mouth, draw_nose
from duel.faces.hair import draw_glasses, draw_hair_behind, draw_hair_in_front
from duel.faces.person import Person, outline

CLOTHES = rgb("1d2733", "7a1f2b", "e8e6df", "2f5d50", "c28f2c", "3b4f8a", "d8a4ad", "55504a", "101012", "b5492f")
WALLS = rgb("dfe3e6", "8fa9bd", "3f5468", "8d7b6a", "d8c7a8", "7f9a74", "2c2f33", "b98f86", "f4f2ee", "5b6d8f")


def draw_person(canvas: Canvas, dice: Dice) -> None:
    """Paint one person on each picture."""
    person = Person(dice.part())
    _background(canvas, person, dice.part(128))
    _for_some(person.long, draw_hair_behind, canvas, person, dice.part())
    _body(canvas, person, dice.part())
    _head(canvas, person, dice.part())
    beard = dice.part()
    _for_some(beard.chance(0.24) * beard.chance(1.0 - 0.85 * person.long), draw_beard, canvas, person, beard)
    marks = dice.part()
    _for_some(marks.chance(0.35), draw_marks, canvas, person, marks)
    draw_nose(canvas, person, dice.part())
    draw_mouth(canvas, person, dice.part())
    draw_eyes(canvas, person, dice.part())
    _for_some(1.0 - person.bald, draw_hair_in_front, canvas, person, dice.part())
    glasses = dice.part()
    _for_some(glasses.chance(0.22), draw_glasses, canvas, person, glasses)


Draw = Callable[[Canvas, Person, Dice], None]


def _for_some(chosen: Array, draw: Draw, canvas: Canvas, person: Person, dice: Dice) -> None:
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
    for _ in range(2):
        band = dice.part(16)
        _for_some(band.chance(0.5), _band, canvas, person, band)


def _spot(canvas: Canvas, person: Person, dice: Dice) -> None:
    shape = canvas.ellipse(
        dice.between(-1.6, 1.6), dice.between(-1.5, 1.2), dice.between(0.25, 0.9), dice.between(0.25, 1.2)
    )
    canvas.paint(canvas.soft(shape, dice.between(0.05, 0.5)) * dice.between(0.15, 0.6), dice.colour(WALLS, 0.1))


def _band(canvas: Canvas, person: Person, dice: Dice) -> None:
    """A door frame, a shelf, a tree: a straight stripe behind the head."""
    angle = dice.between(-0.25, 0.25) + 1.5708 * dice.chance(0.35)
    across, _ = turned(canvas.x, canvas.y, angle)
    stripe = np.abs(across - dice.between(-1.5, 1.5)) - dice.between(0.04, 0.4)
    cover = canvas.soft(stripe, dice.between(0.02, 0.2)) * dice.between(0.2, 0.8)
    canvas.paint(cover, dice.colour(WALLS, 0.1))


def _body(canvas: Canvas, person: Person, dice: Dice) -> None:
    half = dice.between(0.3, 0.46) * (1 + 0.25 * np.maximum(canvas.y - 0.9, 0.0))
    neck = np.abs(canvas.x - 0.12 * person.turn) - half
    neck = np.maximum(neck, 0.4 - canvas.y)
    below = np.clip(1.45 - canvas.y, 0.0, 1.0)  # the chin's shadow
    canvas.paint(canvas.cover(neck), person.skin * (0.86 - 0.45 * below)[:, None])
    rise, wide = dice.between(1.12, 1.4), dice.between(1.0, 1.7)
    shoulders = canvas.ellipse(0.0 * rise, rise + 0.95, wide, 0.95)
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
    head = ellipse(canvas.x, canvas.y, width, 1.0)
    outward = np.sqrt(np.clip(1.0 - across * across - down * down, 0.0, 1.0))
    facing = across * person.light_x + down * person.light_y + 0.75 * outward
    shade = 1.0 + person.light * (0.62 * facing - 0.45) - 0.12 * (1.0 - outward)
    lit = person.skin * shade[:, None]
    red = mixed(0.04, -0.02, -0.02) * dice.between(0.0, 2.0)[:, None]
    canvas.paint(canvas.cover(head), lit)
    for side in (-1.0, 1.0):
        x, narrow = person.place(side * 0.42)
        part = canvas.window(x, 0.28 + person.nod, 0.46)
        cheek = part.ellipse(x, 0.28 + person.nod, 0.24 * narrow, 0.2)
        part.pixels += (part.soft(cheek, 0.35) * part.cover(outline(part, person)))[:, None] * red
        part.paste()
