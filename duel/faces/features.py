"""What lies within the outline of a face: nose, mouth, eyes, brows, beard, marks."""

import numpy as np

from duel.faces.canvas import Array, Canvas, Dice, ellipse, mixed, rgb, turned
from duel.faces.person import Person, outline

IRISES = rgb("2b1a10", "4a2d18", "6b4a24", "5d6b36", "4d7a63", "4f7f9e", "7ba3c4", "8a949b")
LIPS = rgb("b0524c", "c4675f", "a23c45", "8b3a37", "cf7d78")


def draw_beard(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Stubble to full beard, with or without a moustache."""
    x, _ = person.place(0.0)
    top = 0.3 + person.nod + dice.between(0.0, 0.3) - 0.35 * np.abs(canvas.x - x)
    region = np.maximum(outline(canvas, person) - dice.between(0.0, 0.1), top - canvas.y)
    mouth = canvas.ellipse(x, 0.52 + person.nod, 0.2, 0.1)
    region = np.maximum(region, -mouth + 0.02)
    tip = dice.between(-0.1, 0.45)  # a goatee leaves the cheeks free
    region = np.maximum(region, np.abs(canvas.x - x) - 0.35 - tip)
    cover = canvas.soft(region, dice.between(0.06, 0.2)) * dice.between(0.3, 0.95)
    canvas.paint(cover, 0.8 * person.hair + 0.1 * person.skin)


def draw_marks(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Moles, or the folds of an older face."""
    folds = dice.between(0.0, 0.5)
    for side in (-1.0, 1.0):
        x, narrow = person.place(side * 0.3)
        dx, dy = turned(canvas.x - x, canvas.y - 0.38 - person.nod, np.full_like(folds, 0.5 * side))
        fold = np.maximum(np.abs(dx + 0.3 * side * dy * dy) - 0.01, np.abs(dy) - 0.17)
        canvas.shade(canvas.soft(fold, 0.05) * canvas.cover(outline(canvas, person)) * folds * narrow)
    for _ in range(3):
        x, _ = person.place(dice.between(-0.5, 0.5))
        mole = canvas.ellipse(x, dice.between(-0.4, 0.7), dice.between(0.012, 0.035), dice.between(0.012, 0.03))
        canvas.shade(canvas.cover(mole) * dice.between(0.0, 0.6))


def draw_nose(canvas: Canvas, person: Person, dice: Dice) -> None:
    """A ridge lit from one side, a tip and nostrils."""
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
    under = part.ellipse(tip, tip_y + 0.045, 1.15 * broad, 0.05)
    part.shade(part.soft(under, 0.07) * 0.28)
    for side_x in (-1.0, 1.0):
        hole = part.ellipse(tip + side_x * 0.5 * broad, tip_y + 0.03, 0.28 * broad, 0.028)
        part.shade(part.cover(hole) * 0.55)
    part.paste()


def draw_mouth(canvas: Canvas, person: Person, dice: Dice) -> None:
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
    natural = 0.55 * person.skin * mixed(1.0, 0.72, 0.72)
    painted = dice.chance(0.35)[:, None] * dice.between(0.3, 0.9)[:, None]
    colour = (natural + 0.1) * (1 - painted) + dice.colour(LIPS, 0.05) * painted
    part.paint(part.cover(lips) * 0.9, colour)
    part.pixels += 0.1 * part.soft(np.abs(height - 0.6 * bottom) - 0.01, 0.05)[:, None] * part.cover(lips)[:, None]
    hollow = np.maximum(-height - 0.45 * gape * arch, height - 0.9 * gape * arch)
    inside = part.cover(hollow) * (gape > 0.01)
    part.paint(inside, mixed(0.22, 0.07, 0.07))
    teeth = np.maximum(hollow, height - (0.25 + 0.5 * dice.chance(0.6)) * gape * arch)
    part.paint(part.cover(teeth) * (gape > 0.02), mixed(0.93, 0.91, 0.86))
    part.shade(part.cover(np.abs(height) - 0.008) * part.cover(np.abs(along) - 0.95) * (gape <= 0.02) * 0.5)
    part.shade(part.soft(part.ellipse(x, y + 0.17, 0.6 * half, 0.04), 0.08) * 0.16)
    part.paste()


def draw_eyes(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Both eyes with their brows: one set of choices, seen from two sides."""
    width, slant = dice.between(0.12, 0.17), dice.around(0.0, 0.22)
    up, down = dice.between(0.035, 0.085), dice.between(0.025, 0.05)
    shut = dice.chance(0.04)
    up, down = up * (1 - shut) + 0.004 * shut, down * (1 - shut) + 0.012 * shut
    look_x, look_y = dice.around(0.0, 0.6) + 0.3 * person.turn, dice.around(0.0, 0.35)
    iris, round_ = dice.colour(IRISES, 0.04), dice.between(0.062, 0.078)
    brow = (
        dice.between(0.13, 0.22),
        dice.between(0.018, 0.05),
        dice.around(0.0, 0.35),
        dice.between(0.0, 0.06),
    )
    brow_colour = person.hair * dice.between(0.5, 0.95)[:, None] * 0.8 + 0.2 * person.skin * 0.5
    shadow, lash = dice.between(0.05, 0.4), dice.between(0.3, 1.0)
    white = mixed(0.95, 0.94, 0.93) * dice.between(0.82, 1.0)[:, None]
    for side in (-1.0, 1.0):
        x, narrow = person.place(side * person.eye_apart)
        y = person.eye_height
        part = canvas.window(x, y - 0.07, 0.36)
        socket = ellipse(part.x - x, part.y - y + 0.04, 0.22 * narrow, 0.13)
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
        gleam = ellipse(gaze_x - 0.025 * np.sign(person.light_x), gaze_y + 0.025, 0.018, 0.018)
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
