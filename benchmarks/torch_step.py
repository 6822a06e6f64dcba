"""One SEA training step in eager PyTorch: what the JAX step is timed against.

Written for this comparison from the model's equations, in the plain form that an eager research code takes: whole
item maps, each modality propagated by itself with `torch.sparse.mm`, a dense items x items Solosim, fifty inner
Adam steps, everything else left to autograd. Two modalities of a `sea` backbone with `--split=input`.
"""

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F

from sea_jax.adjacency import normalised_adjacency


def sparse_tensor(matrix: scipy.sparse.spmatrix) -> torch.Tensor:
    """A scipy matrix as a coalesced COO tensor."""
    coo = matrix.tocoo()
    index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    return torch.sparse_coo_tensor(index, values, coo.shape, check_invariants=True).coalesce()


class EagerStep:
    """SEA's parameters, both Adam optimisers and the step.

    Args:
      params: arrays under their recorded names, such as `image/item_linear/kernel` or `club/mu0/bias`; kernels are
        (inputs, outputs), as x @ kernel + bias reads them.
      features: by modality, in the order of the columns of `user_modality_weight`; (I, d_m).
      adjacency: (U + I, U + I) normalised, users first.
      item_graph: (I, I) fused nearest items.
      alpha, ureg, temperature, learning_rate, club_steps: as in the settings.
      pairs: (anchor, candidate) of the Solosim term.
      across: fit q on the released pairs instead of those that CLUB evaluates.
    """

    def __init__(
        self,
        params: dict[str, np.ndarray],
        features: dict[str, np.ndarray],
        adjacency: scipy.sparse.spmatrix,
        item_graph: scipy.sparse.spmatrix,
        *,
        alpha: float,
        ureg: float,
        temperature: float,
        learning_rate: float,
        club_steps: int = 50,
        pairs: tuple[tuple[str, str], ...] | None = None,
        across: bool = False,
    ):
        self.features = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in features.items()}
        self.adjacency, self.item_graph = sparse_tensor(adjacency), sparse_tensor(item_graph)
        self.num_users = adjacency.shape[0] - item_graph.shape[0]
        self.alpha, self.ureg, self.temperature, self.club_steps = alpha, ureg, temperature, club_steps
        names = tuple(features)
        self.pairs = pairs or tuple((later, earlier) for n, later in enumerate(names) for earlier in names[:n])
        self.across = across
        self.params = {name: torch.from_numpy(np.array(x, np.float32)).requires_grad_() for name, x in params.items()}
        club = [x for name, x in self.params.items() if name.startswith("club/")]
        model = [x for name, x in self.params.items() if not name.startswith("club/")]
        self.optimiser = torch.optim.Adam(model, lr=learning_rate)
        self.club_optimiser = torch.optim.Adam(club, lr=learning_rate)

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.params[f"{name}/kernel"] + self.params[f"{name}/bias"]

    def head(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """The alignment head: two hidden layers with batch statistics, unit rows."""
        for layer in (0, 1):
            x = self.linear(f"{name}/projection_head/dense{layer}", x)
            scale, bias = (
                self.params[f"{name}/projection_head/batch_norm{layer}/{kind}"] for kind in ("scale", "bias")
            )
            x = F.relu(F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-5))
        return F.normalize(self.linear(f"{name}/projection_head/dense2", x), dim=1)

    def conditional(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of q(y | x)."""
        mean = self.linear("club/mu1", F.relu(self.linear("club/mu0", x)))
        logvar = torch.tanh(self.linear("club/logvar1", F.relu(self.linear("club/logvar0", x))))
        return mean, logvar

    def forward(self):
        """User and item embeddings, and by modality the generic, unique and aligned vectors."""
        users, items, generic, unique, aligned = [], [], {}, {}, {}
        for column, (name, x) in enumerate(self.features.items()):
            mapped = self.linear(f"{name}/item_linear", x)
            half = (mapped.shape[1] + 1) // 2
            generic[name] = self.linear(f"{name}/generic_map", mapped[:, :half])
            unique[name] = self.linear(f"{name}/unique_map", mapped[:, half:])
            aligned[name] = self.head(name, mapped[:, :half])
            encoded = self.linear(f"{name}/mlp1", F.leaky_relu(self.linear(f"{name}/mlp0", mapped), 0.01))
            nodes = F.normalize(torch.cat([self.params[f"{name}/user_preference"], encoded]), dim=1)
            one = torch.sparse.mm(self.adjacency, nodes)
            nodes = nodes + one + torch.sparse.mm(self.adjacency, one)
            user, item = nodes[: self.num_users], nodes[self.num_users :]
            users.append(user * self.params["user_modality_weight"][:, column : column + 1])
            items.append(item)
        item = torch.cat(items, dim=1)
        return torch.cat(users, dim=1), item + torch.sparse.mm(self.item_graph, item), generic, unique, aligned

    def club(self, x: torch.Tensor, y: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
        """Sampled CLUB, halved and clamped at 0."""
        mean, logvar = self.conditional(x)
        positive = -((y - mean) ** 2) / logvar.exp()
        negative = -((y[permutation] - mean) ** 2) / logvar.exp()
        return F.relu((positive.sum(1) - negative.sum(1)).mean() / 4)  # 1/2 of the Gaussian, 1/2 of the release

    def solosim(self, anchors: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Dense InfoNCE over all items, one direction."""
        scores = torch.exp(anchors @ candidates.T / self.temperature)
        return -torch.log(scores.diagonal() / scores.sum(dim=1)).mean()

    def losses(self, users, positives, negatives, permutations):
        """The named losses of one batch, and the vectors that q is fitted on."""
        user, item, generic, unique, aligned = self.forward()
        difference = (user[users] * (item[positives] - item[negatives])).sum(dim=1)
        found = {"bpr": -F.logsigmoid(difference).mean() / float(np.log(2))}
        for name in self.features:
            found[f"club_{name}"] = self.club(generic[name], unique[name], permutations[name])
        club = sum(found[f"club_{name}"] for name in self.features) / len(self.features)
        found["solosim"] = sum(self.solosim(aligned[m], aligned[n]) for m, n in self.pairs) / len(self.pairs)
        found["total"] = found["bpr"] + self.ureg * club + self.alpha * found["solosim"]
        return found, generic, unique

    def fit_conditional(self, pairs) -> None:
        """The inner Adam steps of q on detached vectors."""
        pairs = [(x.detach(), y.detach()) for x, y in pairs]
        for _ in range(self.club_steps):
            loss = 0.0
            for x, y in pairs:
                mean, logvar = self.conditional(x)
                loss = loss + ((y - mean) ** 2 / logvar.exp() + logvar).sum(dim=1).mean() / 2
            self.club_optimiser.zero_grad()
            loss.backward()
            self.club_optimiser.step()

    def step(self, users, positives, negatives, permutations) -> dict[str, float]:
        """One training step; returns the losses before it.

        Args:
          users, positives, negatives: (n,) int64 tensors.
          permutations: by modality, (I,) int64 tensor of CLUB negatives.
        """
        found, generic, unique = self.losses(users, positives, negatives, permutations)
        self.optimiser.zero_grad()
        found["total"].backward()
        if self.across:
            pairs = [pair for m, n in self.pairs for pair in ((generic[m], generic[n]), (unique[m], unique[n]))]
        else:
            pairs = [(generic[name], unique[name]) for name in self.features]
        self.fit_conditional(pairs)
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in found.items()}


def from_trajectory(arrays: dict[str, np.ndarray]) -> EagerStep:
    """The step at the start of a recorded trajectory."""
    items = int(arrays["num_items"])
    index = (arrays["item_graph_rows"], arrays["item_graph_cols"])
    return EagerStep(
        {name.removeprefix("init/"): x for name, x in arrays.items() if name.startswith("init/")},
        {name: arrays[name] for name in ("image", "text")},
        normalised_adjacency(arrays["train"], int(arrays["num_users"]), items),
        scipy.sparse.csr_matrix((arrays["item_graph_vals"], index), shape=(items, items)),
        alpha=float(arrays["alpha_solosim"]),
        ureg=float(arrays["ureg"]),
        temperature=float(arrays["temperature"]),
        learning_rate=float(arrays["learning_rate"]),
        club_steps=int(arrays["club_inner_steps"]),
        across=str(arrays["club_fit_pairs"]) == "across_modalities",
    )


def replay(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The losses of a recorded trajectory, computed here: (steps, 5) of bpr, solosim, club text, club image, total."""
    stepper, rows = from_trajectory(arrays), []
    for number in range(len(arrays["losses"])):
        columns = [
            torch.from_numpy(arrays[f"step{number}/{x}"].astype(np.int64)) for x in ("users", "positives", "negatives")
        ]
        drawn = {
            name: torch.from_numpy(arrays[f"step{number}/club_negative_permutation/{name}"].astype(np.int64))
            for name in stepper.features
        }
        found = stepper.step(*columns, drawn)
        rows.append([found[name] for name in ("bpr", "solosim", "club_text", "club_image", "total")])
    return np.array(rows)
