"""Training steps of LightGCN, FREEDOM and BM3 in eager PyTorch: what the JAX steps are timed against.

Written for this comparison from the equations (docstrings of sea_jax/models/backbones), in the plain form that an eager
research code takes: `torch.sparse.mm` for each layer, whole tables, everything else left to autograd. As there, a
thinned graph is a new sparse tensor, made once an epoch.
"""

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F

from benchmarks.torch_step import sparse_tensor


class Step:
    """One backbone's parameters, its Adam optimiser and the step.

    Args:
      params: arrays under our parameters' names joined by /; kernels are (inputs, outputs).
      graphs: "user_item" (U + I, U + I), and "item" (I, I) for FREEDOM.
      layers, item_layers, reg_weight, learning_rate: as in the settings. contrast_weight, dropout: of BM3.
    """

    def __init__(
        self,
        params: dict[str, np.ndarray],
        graphs: dict[str, scipy.sparse.spmatrix],
        *,
        layers: int,
        reg_weight: float,
        learning_rate: float,
        item_layers: int = 1,
        contrast_weight: float = 2.0,
        dropout: float = 0.3,
    ):
        self.params = {name: torch.from_numpy(np.array(x, np.float32)).requires_grad_() for name, x in params.items()}
        self.graphs = {name: sparse_tensor(matrix) for name, matrix in graphs.items()}
        self.layers, self.item_layers, self.reg_weight = layers, item_layers, reg_weight
        self.contrast_weight, self.dropout = contrast_weight, dropout
        self.modalities = [x.removesuffix("_feature_table") for x in params if x.endswith("_feature_table")]
        self.optimiser = torch.optim.Adam(self.params.values(), lr=learning_rate)

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.params[f"{name}/kernel"] + self.params[f"{name}/bias"]

    def content(self, name: str) -> torch.Tensor:
        return self.linear(f"{name}_projection", self.params[f"{name}_feature_table"])

    def propagated(self) -> tuple[torch.Tensor, torch.Tensor]:
        """LightGCN's users and items."""
        tables = self.params["user_embedding_table"], self.params["item_embedding_table"]
        found = [torch.cat(tables)]
        for _ in range(self.layers):
            found.append(torch.sparse.mm(self.graphs["user_item"], found[-1]))
        users, items = torch.stack(found, dim=1).mean(dim=1).split([len(x) for x in tables])
        return users, items

    def step(self, users, positives, negatives, masks: dict[str, torch.Tensor] | None = None) -> dict[str, float]:
        """One training step; returns the losses before it. masks: BM3's, drawn if None."""
        found = self.losses(users, positives, negatives, masks)
        self.optimiser.zero_grad()
        found["total"].backward()
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in found.items()}

    def losses(self, users, positives, negatives, masks) -> dict[str, torch.Tensor]:
        raise NotImplementedError


def bpr(user: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """BPR over the rows of a batch."""
    return -F.logsigmoid((user * (positive - negative)).sum(dim=1)).mean()


class LightGCN(Step):
    def losses(self, users, positives, negatives, masks):
        user, item = self.propagated()
        ranking = bpr(user[users], item[positives], item[negatives])
        tables = self.params["user_embedding_table"], self.params["item_embedding_table"]
        rows = tables[0][users], tables[1][positives], tables[1][negatives]
        reg = sum(x.norm() for x in rows) / len(users)
        return {"bpr": ranking, "reg": reg, "total": ranking + self.reg_weight * reg}


class FREEDOM(Step):
    def losses(self, users, positives, negatives, masks):
        user, item = self.propagated()
        similar = self.params["item_embedding_table"]
        for _ in range(self.item_layers):
            similar = torch.sparse.mm(self.graphs["item"], similar)
        item = item + similar
        found = {"bpr": bpr(user[users], item[positives], item[negatives])}
        for name in self.modalities:
            content = self.content(name)
            found[f"bpr_{name}"] = bpr(user[users], content[positives], content[negatives])
        own = sum(found[f"bpr_{name}"] for name in self.modalities)
        return found | {"total": found["bpr"] + self.reg_weight * own}


class BM3(Step):
    def losses(self, users, positives, negatives, masks):
        user, item = self.propagated()
        item = item + self.params["item_embedding_table"]
        plain = {"user": user, "item": item} | {name: self.content(name) for name in self.modalities}
        if masks is None:
            masks = {name: torch.rand_like(x) >= self.dropout for name, x in plain.items()}
        target = {name: x.detach() * masks[name] / (1 - self.dropout) for name, x in plain.items()}
        online = {name: self.linear("predictor", x) for name, x in plain.items()}

        def apart(a, rows, b, of):
            return 1 - F.cosine_similarity(online[a][rows], target[b][of]).mean()

        found = {
            "user_to_item": apart("user", users, "item", positives),
            "item_to_user": apart("item", positives, "user", users),
        }
        total = found["user_to_item"] + found["item_to_user"]
        for name in self.modalities:
            for other in ("item", name):
                found[f"{name}_to_{other}"] = apart(name, positives, other, positives)
                total = total + self.contrast_weight * found[f"{name}_to_{other}"]
        found["reg"] = (user.norm() + item.norm()) / len(item)
        return found | {"total": total + self.reg_weight * found["reg"]}


STEPS: dict[str, type[Step]] = {"lightgcn": LightGCN, "freedom": FREEDOM, "bm3": BM3}
