"""What is done between two tables and a bundle: every choice, its default and meaning, once. Flags derive from here."""

import dataclasses

from sea_jax.adjacency import SIMILARITIES
from sea_jax.config import checked, setting
from sea_jax.errors import SeaError
from sea_jax.raw.splits import RULES


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The choices; raises SeaError for a value that cannot be. The first fields are in the order in which they act."""

    min_rating: float | int | None = setting(None, "ratings below are dropped")
    since: str = setting("", "interactions before are dropped: a date such as 2020-12-31, or seconds since 1970")
    until: str = setting("", "interactions from then on are dropped")
    require: tuple[str, ...] = setting((), "what an item must have, of text, image, audio; others are dropped")
    duplicates: str = setting("first", "of several of one user and item: which stays", choices=("first", "last"))
    max_history: int = setting(0, "latest interactions kept of each user; 0: all", low=0)
    k_core: tuple[int, ...] = setting(
        (0,), "least interactions of a user and of an item, to a fixed point; two numbers: of users, items", low=0
    )

    split: str = setting("mmrec", "how interactions are divided (not training's --split)", choices=RULES)
    ratios: tuple[float, ...] = setting(
        (0.8, 0.1, 0.1), "training, validation, test; mmrec and leave_last_out need none"
    )
    seed: int = setting(0, "of the split", low=0, high=2**32 - 1)
    valid_from: str = setting("", "global_time: when validation begins, a date; without: by --ratios")
    test_from: str = setting("", "global_time: when test begins")
    split_from: str = setting("", "an MMRec .inter file whose split is taken, id maps beside it or numbers alike")

    text_template: str = setting("", "an item's text, such as {title}. {brand}; without: its columns joined by blanks")
    image_root: str = setting("", "folder that pictures' paths are relative to")
    audio_root: str = setting("", "folder that sounds' paths are relative to")
    text_encoder: str = setting(
        "", "how texts become numbers: tfidf (default), minilm, minilm:FOLDER, ... or none; see encode.py"
    )
    image_encoder: str = setting("", "how pictures do: colours (default), torchvision, clip, ... or none")
    audio_encoder: str = setting("", "how sounds do: logmel (default), ... or none")
    encoder_cache: str = setting("", "folder that keeps encoded contents, so that a stopped run goes on")
    encoder_device: str = setting(
        "", "where encoders compute; the best there is without", choices=("", "cpu", "gpu", "tpu")
    )
    missing: str = setting(
        "mean", "a row for an item without: the mean of the others, or of its nearest by what it has",
        choices=("mean", "neighbours"),
    )  # fmt: skip

    name: str = setting("", "of the dataset; without: that of the interactions' file")
    knn_k_max: int = setting(20, "nearest items kept per item and modality; training may use fewer", low=1)
    similarity: str = setting(
        "cosine", "what nearest means: cosine of features, or of features whose columns are standardised",
        choices=SIMILARITIES,
    )  # fmt: skip

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        if len(self.k_core) not in (1, 2):
            raise SeaError(
                f"--k_core={','.join(map(str, self.k_core))} must be one number, or two: of users and items."
            )
        unknown = [name for name in self.require if name not in ("text", "image", "audio")]
        if unknown:
            raise SeaError(f"--require={unknown[0]} is not one of text, image, audio.")

    def encoder(self, modality: str) -> str:
        """The encoder chosen for a modality; empty for its default."""
        return getattr(self, f"{modality}_encoder")

    def root(self, modality: str) -> str | None:
        """The folder that a modality's paths are relative to."""
        return {"image": self.image_root, "audio": self.audio_root}.get(modality) or None
