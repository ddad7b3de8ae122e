"""How much memory a source may take, whatever it is made to look like.

Small files can unfold to any size: an archive of zeros, a picture of one colour, a table that repeats one value. What
is beyond these numbers is skipped or refused with its reason, before it is decoded; what is not waits until there is
room for it, over all threads. Together: about 2.5 GB in the worst case, and far less with photographs as they are.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

MAXIMUM_BYTES = 200_000_000  # of one image file
MAXIMUM_PIXELS = 250_000_000  # the largest cameras' pictures have 200 million
MAXIMUM_DECODING = 1_200_000_000  # bytes that decoding takes, of all images at work: see duel.faces.weigh
MAXIMUM_ENCODED = 256_000_000  # bytes of image files that wait for their decoding or are in it
MAXIMUM_PAGE = 512_000_000  # bytes of a parquet file's page, unpacked
MAXIMUM_IMAGES = 5_000_000  # in one source: of each a name is kept
MAXIMUM_UNUSABLE = 500_000  # images of a source: of each a line in the manifest is kept
MAXIMUM_DIRECTORY = 128_000_000  # bytes of a zip's list of its members; its entries take ten times as much
LONGEST_NAME = 200  # characters kept of the name of an image in an archive
_UNCOUNTED = 4_000_000  # bytes that all threads together have left over for each; to ask for them takes time
_FREE = nullcontext()


class Room:
    """So many bytes for all threads; who asks for more than are free waits."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._changed = threading.Condition()

    def of(self, wanted: int) -> AbstractContextManager[None]:
        """Hold that many bytes of the room, all of it at most, while the block runs."""
        return _FREE if wanted <= _UNCOUNTED else self._held(wanted)

    @contextmanager
    def _held(self, wanted: int) -> Iterator[None]:
        taken = min(wanted, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


# In this order, if both: who holds room to decode waits for nothing more, so all get on.
ENCODED = Room(MAXIMUM_ENCODED)
DECODING = Room(MAXIMUM_DECODING)
