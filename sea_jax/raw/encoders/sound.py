"""Sound without any weights: the mean and deviation of a log-mel spectrogram, by soundfile and soxr (extra `audio`)."""

import io
from collections.abc import Iterable, Iterator

import numpy as np

from sea_jax.errors import SeaError, require
from sea_jax.raw.encoders.base import Broken, Encoder, Result

RATE, WINDOW, HOP, BANDS = 16_000, 1024, 512, 64
BLOCK = 4096  # frames whose spectrum is made at a time


class LogMel(Encoder):
    """Rows 128 wide: mean and standard deviation over time of ln(mel power + 1e-6), 64 Slaney bands up to 8 kHz.

    Mono at 16 kHz, Hann windows of 1024 samples every 512, centred, zeros beyond the ends.

    Args:
      seconds: of a longer sound the beginning is used.
    """

    modality = "audio"
    name = "logmel"
    width = 2 * BANDS

    def __init__(self, *, seconds: float = 300.0):
        if seconds <= 0:
            raise SeaError(f"logmel: seconds is {seconds} and must be above 0.")
        self.version = f"1-seconds{seconds:g}"
        self.seconds = seconds
        self._soundfile = require("soundfile", "audio", self.name)
        self._soxr = require("soxr", "audio", self.name)
        self._filters = mel_filters()

    def transform(self, contents: Iterable[tuple[bytes, bytes]]) -> Iterator[Result]:
        for key, content in contents:
            try:
                samples, cut = self.decode(content)
                yield Result(key, summarise(log_mel(samples, self._filters)), cut)
            except Broken as error:
                yield Result(key, problem=str(error))

    def decode(self, content: bytes) -> tuple[np.ndarray, bool]:
        """(n,) float32 mono samples at 16 kHz, and whether the sound was longer; raises Broken."""
        try:
            with self._soundfile.SoundFile(io.BytesIO(content)) as file:
                rate = file.samplerate
                most = max(1, int(self.seconds * rate))
                samples = np.concatenate([np.zeros(0, np.float32), *_mono(file, most)])
                cut = len(samples) == most and len(file.read(1)) > 0
            if not len(samples):
                raise Broken("a sound without samples")
            if not np.isfinite(samples).all():
                raise Broken("a sound with samples that are not finite")
            return (samples if rate == RATE else self._soxr.resample(samples, rate, RATE)), cut
        except Broken:
            raise
        except self._soundfile.LibsndfileError as error:
            raise Broken("a file that is no sound, or a damaged one") from error
        except Exception as error:  # odd rates and headers
            raise Broken("a sound that cannot be read") from error


def _mono(file, most: int) -> Iterator[np.ndarray]:
    """Blocks of the mean over channels, `most` samples together: what a header claims is not believed."""
    done = 0
    while done < most:
        block = file.read(min(1 << 18, most - done), dtype="float32", always_2d=True)
        if not len(block):
            return
        done += len(block)
        yield block.mean(axis=1)


def log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """(n,) samples at 16 kHz to (frames, 64) ln(mel power + 1e-6)."""
    padded = np.pad(samples, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    blocks = []
    for start in range(0, len(frames), BLOCK):
        spectrum = np.fft.rfft(frames[start : start + BLOCK] * window)
        power = spectrum.real**2 + spectrum.imag**2
        blocks.append(np.log(power @ filters.T + 1e-6))
    return np.concatenate(blocks)


def summarise(frames: np.ndarray) -> np.ndarray:
    """(frames, 64) to (128,) float32: means, then deviations."""
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)]).astype(np.float32)


def mel_filters() -> np.ndarray:
    """(64, 513) triangles on Slaney's mel scale, each of area one in Hz (as librosa's default)."""
    edges = _hertz(np.linspace(_mel(0.0), _mel(RATE / 2), BANDS + 2))
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


def _mel(hertz):
    """Slaney: linear below 1 kHz (15 mel), then 27 mel for each factor of 6.4."""
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1e-9) / 1000) / np.log(6.4))


def _hertz(mel):
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
