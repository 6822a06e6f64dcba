"""--vbpr_biases adds beta_i + <beta', x_i> to every user's score of item i, and nothing else."""

import jax
import numpy as np

import sea_jax
from sea_jax.config import Config
from sea_jax.training import loop


def test_biases_add_to_the_score(demo, rng):
    run = loop.prepare(sea_jax.load(demo), Config(backbone="vbpr", vbpr_biases=True, topk=(20,)))
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), run.progress.state.params)
    user, item = run.programs.embed(params, run.data)
    features = np.concatenate([run.bundle.features[name] for name in run.bundle.modalities], axis=1)
    content = features @ params["feature_projection"]["kernel"] + params["feature_projection"]["bias"]
    vectors = np.concatenate([params["item_embedding_table"], content], axis=1)
    bias = (
        params["item_bias_table"][:, 0]
        + features @ params["content_bias"]["kernel"][:, 0]
        + params["content_bias"]["bias"]
    )
    expected = params["user_embedding_table"] @ vectors.T + bias
    np.testing.assert_allclose(user @ item.T, expected, rtol=1e-3, atol=1e-3)
