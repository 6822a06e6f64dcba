"""BPR-MF: matrix factorisation."""

import flax.linen as nn

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.separation import Representation


class MF(Backbone):
    """BPR-MF (Rendle et al. 2009, arXiv 1205.2618): score(u, i) = <U_u, I_i>.

    Loss: BPR + reg_weight (|U_u|_F + |I_p|_F + |I_n|_F) / rows, over the batch's rows. As MMRec computes it: norms and
    not their squares. It reads no features and cannot carry the separation.
    """

    has_modalities = False

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        user = self.table("user_embedding_table", self.num_users, self.dim)
        item = self.table("item_embedding_table", self.num_items, self.dim)
        return self.represent(user, item)
