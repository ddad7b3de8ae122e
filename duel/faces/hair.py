"""Hair behind and in front of the head, and glasses."""

import numpy as np

from duel.faces.canvas import Array, Canvas, Dice, ellipse, rgb
from duel.faces.person import Person, outline


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


def draw_hair_behind(canvas: Canvas, person: Person, dice: Dice) -> None:
    """Long hair falls beside the neck; its end and width vary."""
    end, spread = dice.between(0.55, 1.7), dice.between(0.1, 0.34)
    y = np.maximum(canvas.y, -0.15)
    fall = np.abs(canvas.x + 0.1 * person.turn) - (person.width + spread + dice.around(0.0, 0.22) * (y + 0.15))
    crown = canvas.ellipse(-0.1 * person.turn, -0.15, person.width + spread, 0.9 + 0.5 * spread)
    shape = np.where(canvas.y < -0.15, crown, np.maximum(fall, canvas.y - end))
    shape = shape + _ragged(canvas, dice, dice.between(0.0, 0.04))
    dark = 0.72 * _hair_colour(canvas, person, dice)
    canvas.paint(canvas.cover(shape), dark)


def draw_hair_in_front(canvas: Canvas, person: Person, dice: Dice) -> None:
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
    canvas.shade(canvas.soft(hair - 0.05, 0.14) * canvas.cover(outline(canvas, person)) * 0.25)
    canvas.paint(canvas.cover(hair), _hair_colour(canvas, person, dice))


def draw_glasses(canvas: Canvas, person: Person, dice: Dice) -> None:
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
