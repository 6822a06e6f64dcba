"""A checkpoint that could not be written ends the run with one sentence."""

import pytest

from sea_jax import bundle as bundles
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import checkpoints, loop


@pytest.mark.parametrize("epochs", [1, 2])  # noticed at the end, and before the next one is written
def test_a_failed_write_is_told(demo, tmp_path, epochs):
    written = []

    class Full:
        """Takes checkpoints and tells when waited for that the disk was full."""

        directory = tmp_path

        def save_async(self, step, progress, overwrite, custom_metadata):
            written.append(step)

        def wait(self):
            if written:
                raise ValueError("RESOURCE_EXHAUSTED: no space left on device\nand many lines more")

    config = Config(batch_size=64, club_steps=2, epochs=epochs, checkpoint_every=1)
    with pytest.raises(SeaError) as error:
        loop.fit(loop.prepare(bundles.load(demo), config), checkpoints.Writer(Full()))
    assert str(error.value).startswith(f"a checkpoint could not be written to {tmp_path} (no space is left there)")
    assert "\n" not in str(error.value)
    assert written == [1]
