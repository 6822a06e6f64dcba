"""What the service answers: a question as plain values in, a dictionary for JSON out; refusals with their status. NumPy alone."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sea_jax.control import Control
from sea_jax.errors import SeaError
from sea_jax.explaining import Why, explain, explain_for
from sea_jax.recommender import Recommender
from sea_jax.recommender_file import OWN
from sea_jax.serving.catalogue import Index, id_of

DEFAULT_K = 10
LARGEST_K = 1000
LARGEST_LIST = 10_000  # ids in one list of a question
LARGEST_NUMBER = 1e6  # of weights and boosts: sums of their products stay finite
FOUND = 20  # what a search answers
LETTERS = 200  # of a search


class Refused(Exception):
    """A question that is not answered: the HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Question:
    """What may be asked of a list; names as in the JSON of POST /recommend.

    user: an id; or items: a basket, with weights. k: length. exclude_seen: whether what the user has seen, or the basket,
    is left out. allow: the items that may be listed, None for all. deny, categories, only_new, boosts, diversity: see
    `Control`. stranger: "popular" answers an unknown user with what is popular. explain: whether each item says why.
    """

    user: Any = None
    items: Any = None
    weights: Any = None
    k: Any = DEFAULT_K
    exclude_seen: Any = True
    allow: Any = None
    deny: Any = ()
    categories: Any = ()
    only_new: Any = False
    boosts: Any = dataclasses.field(default_factory=dict)
    diversity: Any = 0.0
    stranger: Any = None
    explain: Any = False


class Answers:
    """Answers about a recommender.

    Args:
      made: it.
      pictures: files by item number, see `catalogue.pictures`.
      content: gives the rows (I, d) by which diverse lists compare items, when the first is asked for; the model's own
        vectors without.
    """

    def __init__(
        self,
        made: Recommender,
        pictures: Mapping[int, Path] | None = None,
        content: Callable[[], np.ndarray] | None = None,
    ):
        self.made, self.pictures, self._load_content = made, dict(pictures or {}), content
        self.counts = np.bincount(made.seen_items, minlength=len(made.item_ids))
        self._most_popular_first = np.argsort(-self.counts, kind="stable")
        titles = made.titles or [""] * len(made.item_ids)
        names = [f"{one} {title}" for one, title in zip(made.item_ids.tolist(), titles, strict=True)]
        self._items = Index([names[number] for number in self._most_popular_first.tolist()])
        self._users = Index([str(one) for one in made.user_ids.tolist()])

    def health(self) -> dict:
        """That it answers, and about what."""
        named = {name: self.made.notes[name] for name in ("dataset", "backbone", "epoch") if name in self.made.notes}
        return {"status": "ok", "users": len(self.made.user_ids), "items": len(self.made.item_ids), **named}

    def recommend(self, asked: Question) -> dict:
        """A list for a user or a basket: {"user": ..., "items": [{"item", "score", "title", ...}]}."""
        k, explained = _whole(asked.k, "k", LARGEST_K), _flag(asked.explain, "explain")
        wishes, boosts = self._wishes(asked)
        kept = {
            "k": min(k, len(self.made.item_ids)),
            "exclude_seen": _flag(asked.exclude_seen, "exclude_seen"),
            "candidates": None if asked.allow is None else self._ids(asked.allow, "allow"),
            "control": wishes,
        }
        if asked.stranger not in (None, "popular"):
            raise Refused(400, "stranger must be popular, or not be there.")
        if (asked.user is None) == (asked.items is None):
            raise Refused(400, "Name either a user or items, the basket of a stranger.")
        if asked.items is not None:
            basket = self._ids(asked.items, "items")
            weights = None if asked.weights is None else _amounts(asked.weights, len(basket))
            found, scores = self.made.recommend_for(basket, **kept, weights=weights)
            why = (lambda items: explain_for(self.made, basket, items, weights=weights)) if explained else None
            return {"user": None, "basket": basket, "items": self._entries(found, scores, why, boosts)}
        if asked.weights is not None:
            raise Refused(400, "weights belong to items, and there are none.")
        user = self._known("user", asked.user)
        if user is None:
            if asked.stranger is None:
                raise Refused(
                    404, f"There is no user {_short(asked.user)}; stranger=popular answers with what is popular."
                )
            found, scores = self._popular.recommend_for([], **kept)
            why = (lambda items: explain_for(self._popular, [], items)) if explained else None
            return {"user": asked.user, "stranger": "popular", "items": self._entries(found, scores, why, boosts)}
        found, scores = self.made.recommend([user], **kept)
        why = (lambda items: explain(self.made, user, items)) if explained else None
        return {"user": user, "items": self._entries(found[0], scores[0], why, boosts)}

    def similar(self, item: Any, k: Any = DEFAULT_K) -> dict:
        """The nearest items of one: {"item": ..., "items": [...]}, scores being cosines."""
        k, one = _whole(k, "k", LARGEST_K), self._item(item)
        found, scores = self.made.similar_items([one], min(k, len(self.made.item_ids)))
        return {"item": one, "items": self._entries(found[0], scores[0])}

    def item(self, item: Any) -> dict:
        """What is known of an item."""
        one = self._item(item)
        return {**self._shown(one), "seen_by": int(self.counts[self._number(one)])}

    def user(self, user: Any, k: Any = DEFAULT_K) -> dict:
        """What a user has seen: {"user": ..., "seen": how many, "items": the first k}."""
        k, one = _whole(k, "k", LARGEST_K), self._known("user", user)
        if one is None:
            raise Refused(404, f"There is no user {_short(user)}.")
        seen = self.made.seen(self.made.numbers("user", [one])[0])
        items = [self._shown(item) for item in self.made.item_ids[seen[:k]].tolist()]
        return {"user": one, "seen": len(seen), "items": items}

    def find_items(self, search: Any = "", limit: Any = FOUND) -> dict:
        """Items whose id or title contains the letters: the one of this very id first, then the most popular ones."""
        places = self._items.find(_letters(search), _whole(limit, "limit", LARGEST_K))
        found = self.made.item_ids[self._most_popular_first[places]].tolist()
        return {"items": [self._shown(one) for one in self._exact_first("item", search, found, limit)]}

    def find_users(self, search: Any = "", limit: Any = FOUND) -> dict:
        """Users whose id contains the letters: the one of this very id first."""
        found = self.made.user_ids[self._users.find(_letters(search), _whole(limit, "limit", LARGEST_K))].tolist()
        return {"users": [{"user": one} for one in self._exact_first("user", search, found, limit)]}

    def picture(self, item: Any) -> Path:
        """The file of an item's picture."""
        one = self._item(item)
        number = self._number(one)
        if number not in self.pictures:
            raise Refused(404, f"There is no picture of item {_short(one)}.")
        return self.pictures[number]

    @functools.cached_property
    def _popular(self) -> Recommender:
        forms = dict.fromkeys(OWN) | {"members": (), "item_scores": self.counts.astype(np.float32)}
        return dataclasses.replace(self.made, **forms, extras={})

    @functools.cached_property
    def _content(self) -> np.ndarray | None:
        return self.made.item_vectors if self._load_content is None else self._load_content()

    def _diverse(self, share: Any) -> tuple[Any, np.ndarray | None]:
        """The diversity that is asked for, and the rows that it goes by."""
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise Refused(400, "diversity must be a number from 0 to 1.")
        if not share:
            return share, None
        try:
            rows = self._content
        except (SeaError, OSError) as error:  # which names files of this machine
            raise Refused(400, "The features of the items cannot be read; ask without diversity.") from error
        if rows is None and not self.made.knows_similarity:
            raise Refused(400, "This service does not know which items are alike; ask without diversity.")
        return share, rows

    def _wishes(self, asked: Question) -> tuple[Control, dict]:
        if not isinstance(asked.boosts, Mapping) or len(asked.boosts) > LARGEST_LIST:
            raise Refused(400, f"boosts must be an object of at most {LARGEST_LIST} items and numbers.")
        boosts = {self._item(item): _number(boost, "a boost") for item, boost in asked.boosts.items()}
        diversity, content = self._diverse(asked.diversity)
        wishes = Control(
            deny=self._ids(asked.deny, "deny"),
            categories=tuple(_list(asked.categories, "categories")),
            only_new=_flag(asked.only_new, "only_new"),
            boosts=boosts,
            diversity=diversity,
            content=content,
        )
        return wishes, boosts

    def _entries(self, items, scores, why=None, boosts: Mapping = ()) -> list[dict]:
        """The places that an item has taken, the first first."""
        found = [
            (one, float(score)) for one, score in zip(items.tolist(), scores.tolist(), strict=True) if one is not None
        ]
        entries = [{"item": one, "score": score, **self._shown(one)} for one, score in found]
        for entry, reason in zip(entries, why([one for one, _ in found]), strict=True) if why and found else ():
            entry["why"] = self._why(reason, entry, boosts)
        return entries

    def _why(self, reason: Why, entry: dict, boosts: Mapping) -> dict:
        parts = dict(reason.parts)
        if entry["item"] in boosts:
            parts["boost"] = entry["score"] - reason.score
        near = [{**self._shown(one), "likeness": likeness} for one, likeness in reason.nearest]
        return {"parts": parts, "nearest": near}

    def _shown(self, one: Any) -> dict:
        """An item's id and what is known to show it by."""
        number, shown = self._number(one), {"item": one}
        for name, texts in (("title", self.made.titles), ("category", self.made.categories)):
            if texts and texts[number]:
                shown[name] = texts[number]
        if number in self.pictures:
            shown["picture"] = f"/pictures/{quote(str(one), safe='')}"
        return shown

    def _known(self, kind: str, given: Any) -> Any:
        """The id as the recommender has it, None for one that it does not know; refuses what can be no id."""
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise Refused(400, f"An id of a {kind} is a string or an integer.")
        one = id_of(given, self.made.user_ids if kind == "user" else self.made.item_ids)
        try:
            self.made.numbers(kind, [one])
        except SeaError:
            return None
        return one

    def _exact_first(self, kind: str, search: str, found: list, limit: int) -> list:
        one = self._known(kind, search)
        return found if one is None else [one, *(other for other in found if other != one)][:limit]

    def _item(self, given: Any) -> Any:
        one = self._known("item", given)
        if one is None:
            raise Refused(404, f"There is no item {_short(given)}.")
        return one

    def _ids(self, given: Any, name: str) -> list:
        return [self._item(one) for one in _list(given, name)]

    def _number(self, one: Any) -> int:
        return int(self.made.numbers("item", one)[0])


def question(fields: Mapping[str, Any]) -> Question:
    """A question from JSON, with the names that Cornac's service has for some of its fields.

    Raises: Refused for a field that there is not, or one that is named twice.
    """
    asked: dict[str, Any] = {}
    names: dict[str, str] = {}
    for given, value in fields.items():
        name = {"uid": "user", "remove_seen": "exclude_seen", "exclude": "deny"}.get(given, given)
        if name not in {field.name for field in dataclasses.fields(Question)}:
            raise Refused(400, f"There is no field {_short(given)}.")
        if name in asked:
            raise Refused(400, f"{names[name]} and {given} are one field; name it once.")
        asked[name], names[name] = value, given
    return Question(**asked)


def _whole(value: Any, name: str, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise Refused(400, f"{name} must be a whole number from 1 to {largest}.")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise Refused(400, f"{name} must be true or false.")
    return value


def _number(value: Any, name: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise Refused(400, f"{name} must be a number of at most {LARGEST_NUMBER:g}.")
    return value


def _amounts(given: Any, count: int) -> list:
    weights = [_number(one, "a weight") for one in _list(given, "weights")]
    if len(weights) != count or not all(math.ulp(1.0) <= one for one in weights):
        raise Refused(400, "weights must be numbers above 0, one for each of items.")
    return weights


def _list(value: Any, name: str) -> list:
    if not isinstance(value, list | tuple) or len(value) > LARGEST_LIST:
        raise Refused(400, f"{name} must be a list of at most {LARGEST_LIST} entries.")
    return list(value)


def _letters(value: str) -> str:
    if len(value) > LETTERS:
        raise Refused(400, f"search must be at most {LETTERS} letters.")
    return value


def _short(value: Any) -> str:
    """An id as a sentence may have it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
