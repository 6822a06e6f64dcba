"""Log-mel rows against a slow, independent computation; broken and long sounds."""

import io
import math

import numpy as np
import pytest

from sea_jax.errors import SeaError
from sea_jax.raw import encoders
from sea_jax.raw.encoders import sound

soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")


def wav(samples, rate=16_000, kind="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def melody(seconds=0.3, rate=16_000, seed=0):
    time = np.arange(int(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    return (
        0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 3100 * time) + 0.01 * rng.normal(size=len(time))
    )


def slow_mel_row(samples):
    """Mean and deviation of ln(mel + 1e-6): the DFT as a sum, the bands by their definition."""

    def hertz(mel):
        return 200 / 3 * mel if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * math.log(8) / math.log(6.4)
    edges = [hertz(top * number / 65) for number in range(66)]
    padded = [0.0] * 512 + list(samples) + [0.0] * 512
    bins = np.arange(513)
    angles = np.exp(-2j * np.pi * np.outer(bins, np.arange(1024)) / 1024)
    frames = []
    for start in range(0, len(padded) - 1023, 512):
        windowed = [padded[start + n] * math.sin(math.pi * n / 1024) ** 2 for n in range(1024)]
        power = np.abs(angles @ np.array(windowed)) ** 2
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for number in range(513):
                at = number * 16_000 / 1024
                if low < at <= middle:
                    total += power[number] * (at - low) / (middle - low) * 2 / (high - low)
                elif middle < at < high:
                    total += power[number] * (high - at) / (high - middle) * 2 / (high - low)
            bands.append(math.log(total + 1e-6))
        frames.append(bands)
    frames = np.array(frames)
    return np.concatenate([frames.mean(axis=0), np.sqrt(((frames - frames.mean(axis=0)) ** 2).mean(axis=0))])


def encode(*contents, tmp_path, **options):
    names = []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        names.append(str(number))
    return encoders.get("audio", **options).encode(names, root=tmp_path)


@pytest.mark.parametrize("length", [4800, 512, 511, 1])
def test_rows_equal_a_slow_computation(tmp_path, length):
    samples = melody()[:length].astype(np.float32)
    encoded = encode(wav(samples, subtype="FLOAT"), tmp_path=tmp_path)
    assert encoded.features.shape == (1, 128)
    np.testing.assert_allclose(encoded.features[0], slow_mel_row(samples), atol=2e-4)


def test_many_frames_are_done_in_blocks(monkeypatch):
    samples = melody(2.0).astype(np.float32)
    whole = sound.log_mel(samples, sound.mel_filters())
    monkeypatch.setattr(sound, "BLOCK", 7)
    np.testing.assert_allclose(sound.log_mel(samples, sound.mel_filters()), whole, atol=1e-10)


def test_channels_and_rates_hardly_matter(tmp_path):
    mono, fast = melody(1.0), melody(1.0, rate=44_100)
    encoded = encode(wav(mono), wav(np.stack([mono, mono], axis=1)), wav(fast, 44_100), tmp_path=tmp_path)
    np.testing.assert_allclose(encoded.features[1], encoded.features[0], atol=1e-4)
    loud = encoded.features[0][:64] > -4  # bands that the two tones fill
    assert loud.any()
    np.testing.assert_allclose(encoded.features[2][:64][loud], encoded.features[0][:64][loud], atol=0.5)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_other_formats_are_read(tmp_path, kind):
    encoded = encode(wav(melody(1.0)), wav(melody(1.0), kind=kind), tmp_path=tmp_path)
    assert np.abs(encoded.features[0] - encoded.features[1]).mean() < 1


def test_broken_sounds_are_counted(tmp_path):
    good = wav(melody())
    flac = wav(melody(), kind="FLAC")
    encoded = encode(
        good,
        b"<html>",
        good[:20],
        b"",
        wav(np.zeros(0)),
        wav(np.array([0.0, np.nan]), subtype="FLOAT"),
        flac[:60],
        tmp_path=tmp_path,
    )
    np.testing.assert_array_equal(encoded.missing, [False] + [True] * 6)
    assert set(encoded.problems) <= {
        "a file that is no sound, or a damaged one",
        "an empty file",
        "a sound without samples",
        "a sound with samples that are not finite",
        "a sound that cannot be read",
    }
    assert sum(problem.count for problem in encoded.problems.values()) == 6


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_escapes(seed):
    rng = np.random.default_rng(seed)
    content = bytearray(wav(melody(), kind=("WAV", "FLAC", "OGG", "MP3")[seed % 4]))
    for place in rng.integers(0, len(content), 1 + seed):
        content[place] = rng.integers(256)
    _, row, _, problem = next(iter(encoders.get("audio").transform([(b"key", bytes(content))])))
    assert problem if row is None else row.shape == (128,)


def test_a_long_sound_is_cut_and_counted(tmp_path):
    samples = melody(2.0)
    encoded = encode(wav(samples), wav(samples[:16_000]), tmp_path=tmp_path, seconds=1.0)
    np.testing.assert_array_equal(encoded.features[0], encoded.features[1])
    assert encoded.cut == 1


def test_seconds_must_be_positive():
    with pytest.raises(SeaError, match="above 0"):
        encoders.get("audio", seconds=0.0)
