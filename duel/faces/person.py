"""Who is drawn: the choices that several parts of a face must agree on."""

import numpy as np

from duel.faces.canvas import Array, Canvas, Dice, ellipse, rgb

SKINS = rgb("ffe3d3", "f6cfb4", "edbb94", "d9a077", "bf8358", "96603d", "6d4329", "4a2d1f")
HAIRS = rgb("15110f", "241a15", "3b271b", "553621", "7a4f2c", "9a7144", "bd9a66", "d8c295")
GREYS = rgb("4a4a4c", "8d8c8b", "c9c7c4", "ecebe8")
DYES = rgb("8e2f1f", "b3422a", "c2467d", "5a4bb0", "2f7fa8", "3a8a5c")


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
        natural, grey, dyed = (
            dice.colour(HAIRS, 0.03, fair),
            dice.colour(GREYS, 0.02),
            dice.colour(DYES, 0.05),
        )
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


def outline(canvas: Canvas, person: Person) -> Array:
    """Signed distance to the head, narrower towards the chin."""
    lower = np.clip(canvas.y, 0.0, 1.0)
    return ellipse(canvas.x, canvas.y, person.width * (1.0 - person.jaw * lower * lower), 1.0)
