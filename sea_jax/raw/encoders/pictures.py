"""Pictures without any weights: histograms of colours and of the directions of edges, by Pillow and NumPy.

Weak: it tells red from blue and stripes from plain, not a shoe from a boat. Use torchvision or CLIP for that. `decode`
is what every encoder of pictures opens files with.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from sea_jax.errors import require
from sea_jax.raw.encoders.base import Broken, Encoder, Result, unit

MOST_PIXELS = 64_000_000  # a picture that claims more is not decoded
SIDE, GRID, DIRECTIONS = 96, 4, 8
HUES, SATURATIONS, VALUES = 12, 3, 3


class Colours(Encoder):
    """Rows of unit length, 284 wide: a joint histogram of hue, saturation and brightness; mean colours and histograms
    of edge directions on a grid of 4 x 4 cells. Histograms enter by their square roots (Hellinger)."""

    modality = "image"
    name = "colours"
    version = "1"
    width = HUES * SATURATIONS * VALUES + GRID * GRID * (3 + DIRECTIONS)

    def __init__(self):
        require("PIL", "image", self.name)

    def transform(self, contents: Iterable[tuple[bytes, bytes]]) -> Iterator[Result]:
        for key, content in contents:
            try:
                yield Result(key, describe(decode(content, draft=2 * SIDE)))
            except Broken as error:
                yield Result(key, problem=str(error))


def decode(content: bytes, draft: int = 0):
    """The picture as RGB, upright, on white where it is transparent; the first of an animation.

    Args:
      content: of the file.
      draft: a JPEG may be decoded at a smaller scale, but no smaller than this (faster; pixels differ a little).
    Raises: Broken if it is no picture, damaged, or claims more than 64 million pixels (checked before decoding).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(content))
            if image.width * image.height > MOST_PIXELS:
                raise Broken("a picture of too many pixels")
            if draft and image.format == "JPEG":
                image.draft("RGB", (draft, draft))
            image.load()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Broken("a picture of too many pixels") from error
        except UnidentifiedImageError as error:
            raise Broken("a file that is no picture") from error
        except Broken:
            raise
        except Exception as error:  # Pillow's readers raise many kinds for damaged files
            raise Broken("a damaged picture") from error
        with contextlib.suppress(Exception):  # damaged metadata; the pixels are good
            image = ImageOps.exif_transpose(image)
        return _on_white(image)


def _on_white(image):
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits of grey, which convert("RGB") would clip
        grey = np.nan_to_num(np.asarray(image, np.float32))
        scale = 255 / 65535 if grey.max(initial=0) > 255 else 1.0
        return Image.fromarray(np.clip(grey * scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def describe(image) -> np.ndarray:
    """The row of an RGB picture, (284,) float32."""
    from PIL import Image

    image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32) / 255
    hue, saturation, value = np.moveaxis(np.asarray(image.convert("HSV"), np.int64), -1, 0)
    joint = (hue * HUES // 256 * SATURATIONS + saturation * SATURATIONS // 256) * VALUES + value * VALUES // 256
    colours = np.bincount(joint.ravel(), minlength=HUES * SATURATIONS * VALUES) / joint.size

    means = pixels.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID, 3).mean(axis=(1, 3))

    down, right = np.gradient(pixels.mean(axis=-1))
    strength = np.hypot(down, right)
    # Edges have no sign: a direction and its opposite are one.
    direction = np.floor((np.arctan2(down, right) / np.pi % 1) * DIRECTIONS + 0.5).astype(np.int64) % DIRECTIONS
    cell = np.arange(SIDE) // (SIDE // GRID)
    place = (cell[:, None] * GRID + cell) * DIRECTIONS + direction
    edges = np.bincount(place.ravel(), strength.ravel(), minlength=GRID * GRID * DIRECTIONS)
    edges = edges / (edges.sum() + 1.0)  # a plain picture has hardly any

    parts = unit(np.sqrt(colours)), unit(means.ravel()), np.sqrt(edges)
    return unit(np.concatenate(parts)).astype(np.float32)
