"""What a recommender holds and its file: arrays made of what callers give, checked, written, read. NumPy alone."""

import contextlib
import hashlib
import json
import numbers
import os
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from sea_jax import files
from sea_jax.errors import SeaError

SCHEMA, BLENDS = 1, 2  # the second of files with members, which older versions cannot read
LARGEST = 1e15  # no sum of products of such numbers overflows float32
SAVE_AGAIN = "save the recommender again"

# Dtype and axes of each array; axes of one name have one length.
ARRAYS = {
    "seen_starts": (np.int64, ("users + 1",)),
    "seen_items": (np.int32, ("seen",)),
    "user_vectors": (np.float32, ("users", "d")),
    "item_vectors": (np.float32, ("items", "d")),
    "item_weights": (np.float32, ("items", "items")),
    "weight_starts": (np.int64, ("items + 1",)),
    "weight_items": (np.int32, ("weights",)),
    "weight_values": (np.float32, ("weights",)),
    "item_scores": (np.float32, ("items",)),
    "member_weights": (np.float32, ("members",)),
}
SEEN = ("seen_starts", "seen_items")
OWN = tuple(name for name in ARRAYS if name not in SEEN)  # what members of a blend do not share
TEXTS = ("titles", "categories")  # one string an item, or None
# What scores: a recommender has all arrays of one line and none of the others.
FORMS = (
    ("user_vectors", "item_vectors"),
    ("item_weights",),
    ("weight_starts", "weight_items", "weight_values"),
    ("item_scores",),
    ("member_weights",),
)
MEMBER = re.compile(r"member(0|[1-9][0-9]{0,3})_(.+)")  # a member's field in the file, by the member's number


def listed(ids: Any) -> list:
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str | bytes) else [ids]


def ids_of(field: str, ids: Any, count: int) -> np.ndarray:
    entries = list(range(count)) if ids is None else listed(ids)
    if len(entries) != count:
        raise SeaError(f"{field} must have {count} entries, has {len(entries)}.")
    found = None
    with contextlib.suppress(OverflowError):
        if all(isinstance(one, numbers.Integral) and not isinstance(one, bool) for one in entries):
            found = np.array(entries, np.int64)
        elif all(isinstance(one, str) for one in entries):
            found = np.array(entries, np.str_)
    if found is None or found.tolist() != entries:  # NumPy drops NUL at the end of a string
        raise SeaError(f"{field} must be integers of at most 64 bits, or strings that do not end in NUL.")
    return found


def floats(field: str, values: Any, ndim: int) -> np.ndarray:
    found = array_of(field, values)
    if found.ndim != ndim or found.dtype.kind not in "biuf":
        raise SeaError(f"{field} must be numbers in {ndim} axes, is {found.dtype} {found.shape}.")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, np.float32)


def array_of(field: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise SeaError(f"{field} must be an array, and cannot be made one ({error}).") from error


def about(
    pairs,
    num_items,
    num_users=None,
    user_ids=None,
    item_ids=None,
    titles=None,
    notes=None,
    extras=None,
    categories=None,
):
    """The fields that all forms share; the number of users is known from vectors only."""
    pairs = array_of("train_pairs", pairs)
    pairs = pairs if pairs.size else np.zeros((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise SeaError(f"train_pairs must be integers of shape (n, 2), is {pairs.dtype} {pairs.shape}.")
    pairs = pairs.astype(np.int64)
    user_ids = None if user_ids is None else listed(user_ids)
    if num_users is None:
        num_users = int(pairs[:, 0].max(initial=-1)) + 1 if user_ids is None else len(user_ids)
    for column, count, kind in ((0, num_users, "user"), (1, num_items, "item")):
        wrong = pairs[(pairs[:, column] < 0) | (pairs[:, column] >= count), column]
        if len(wrong):
            raise SeaError(f"train_pairs names {kind} {wrong[0]}, outside 0 to {count - 1}.")
    seen = np.unique(pairs @ [num_items, 1])
    return {
        "user_ids": ids_of("user_ids", user_ids, num_users),
        "item_ids": ids_of("item_ids", item_ids, num_items),
        "seen_starts": np.searchsorted(seen, np.arange(num_users + 1) * num_items),
        "seen_items": (seen % max(num_items, 1)).astype(np.int32),
        "titles": texts_of(titles),
        "categories": texts_of(categories),
        "notes": notes_of(notes),
        "extras": dict(extras or {}),
    }


def notes_of(notes: Any) -> Any:
    """Notes as a file gives them back."""
    try:
        return json.loads(json.dumps(notes or {}))
    except (TypeError, ValueError) as error:
        raise SeaError(f"notes cannot be written as JSON ({error}).") from error


def texts_of(texts: Any) -> list | None:
    """One entry an item, empty where there is none; or None."""
    return None if texts is None else ["" if text is None else text for text in listed(texts)]


def check(made: Any) -> None:
    """Checks dtypes, shapes, values, ids and seen items; raises SeaError naming the field."""

    def require(condition, field, wrong):
        if not condition:
            raise SeaError(f"{field} {wrong}.")

    sizes = {}
    for field, axis in (("user_ids", "users"), ("item_ids", "items")):
        ids = getattr(made, field)
        require(ids.ndim == 1 and (ids.dtype == np.int64 or ids.dtype.kind == "U"), field, "must be int64 or str (n,)")
        sizes |= {axis: len(ids), f"{axis} + 1": len(ids) + 1}
    for kind, last in made._number_of.items():
        twice = [one for n, one in enumerate(getattr(made, f"{kind}_ids").tolist()) if last[one] != n]
        require(not twice, f"{kind}_ids", f"has {twice[:1]} twice")
    require(sizes["items"] > 0, "item_ids", "is empty")
    given = tuple(name for name in OWN if getattr(made, name) is not None)
    require(given in FORMS, " and ".join(given) or "user_vectors", "is not one complete form that scores")
    for field, (dtype, axes) in ARRAYS.items():
        array = getattr(made, field)
        if array is None:
            continue
        wanted = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
        require(
            array.dtype == dtype and array.ndim == len(axes) and array.shape == wanted,
            field, f"must be {np.dtype(dtype)} ({', '.join(axes)}), is {array.dtype} {array.shape}, "
            f"for {sizes['users']} users and {sizes['items']} items",
        )  # fmt: skip
        if array.dtype == np.float32 and array.size:
            fine = array.min() >= -LARGEST and array.max() <= LARGEST
            require(fine, field, f"has values that are not finite or beyond {LARGEST:g}")
    _check_members(made, require)
    for prefix in ("seen", "weight"):
        starts, items = getattr(made, f"{prefix}_starts"), getattr(made, f"{prefix}_items")
        if starts is not None:
            whole = starts[0] == 0 and starts[-1] == len(items) and (starts[1:] >= starts[:-1]).all()
            require(whole, f"{prefix}_starts", f"does not divide {prefix}_items into rows")
            inside = not len(items) or (items.min() >= 0 and items.max() < sizes["items"])
            require(inside, f"{prefix}_items", "names items outside the catalogue")
            rises = items[1:] > items[:-1]
            rises[starts[(starts > 0) & (starts < len(items))] - 1] = True  # from one row to the next
            require(rises.all(), f"{prefix}_items", "must rise within a row")
    for name in TEXTS:
        texts = getattr(made, name)
        right = texts is None or (isinstance(texts, list) and all(isinstance(text, str) for text in texts))
        require(right and (texts is None or len(texts) == sizes["items"]), name, "must be one string an item")
    require(isinstance(made.notes, dict), "notes", "must be a dictionary")
    d = None if made.item_vectors is None else made.item_vectors.shape[1]
    for name, array in made.extras.items():
        plain = isinstance(array, np.ndarray) and array.dtype.kind in "biufU"
        require(plain, f"extras[{name!r}]", "must be an array of numbers or strings")
    rows = made.extras.get("basket_items")
    if rows is not None:
        fine = d is not None and rows.shape == (sizes["items"], d) and rows.dtype == np.float32
        fine = fine and (not rows.size or (rows.min() >= -LARGEST and rows.max() <= LARGEST))
        require(fine, "extras['basket_items']", f"must be finite float32 ({sizes['items']}, {d})")
    if "column_names" in made.extras or "column_ends" in made.extras:
        names, ends = made.extras.get("column_names"), made.extras.get("column_ends")
        fine = names is not None and ends is not None and names.dtype.kind == "U" and ends.dtype == np.int64
        fine = fine and names.ndim == 1 and names.shape == ends.shape and len(set(names.tolist())) == len(names)
        fine = fine and len(ends) and ends[0] > 0 and ends[-1] == d and bool((ends[1:] > ends[:-1]).all())
        require(bool(fine), "extras['column_ends']", "and column_names must divide the vectors' columns")


def _check_members(made: Any, require) -> None:
    weights = np.zeros(0) if made.member_weights is None else made.member_weights
    require(len(made.members) == len(weights), "members", f"must be {len(weights)}, one for each of member_weights")
    require(weights.min(initial=1) > 0, "member_weights", "must be above 0; leave a member out instead")
    for number, one in enumerate(made.members):
        require(not one.members, f"members[{number}]", "is itself a blend; give its members")
        for name in ("user_ids", "item_ids", *SEEN):
            same = np.array_equal(getattr(one, name), getattr(made, name))
            require(same, f"members[{number}]", f"has other {name} than the first")
    names = made.extras.get("member_names")
    if names is not None:
        fine = names.dtype.kind == "U" and names.shape == weights.shape and len(set(names.tolist())) == len(names)
        require(fine, "extras['member_names']", f"must be {len(weights)} different strings, one a member")


def write(made: Any, path: str | os.PathLike) -> None:
    """Writes a recommender as one uncompressed .npz file under exactly this name: whole, or not at all."""
    arrays = {"user_ids": made.user_ids, "item_ids": made.item_ids}
    arrays |= {name: getattr(made, name) for name in SEEN} | _own(made)
    for number, one in enumerate(made.members):
        arrays |= {f"member{number}_{name}": array for name, array in _own(one).items()}
    arrays["schema"] = np.array(BLENDS if made.members else SCHEMA)
    arrays |= {name: _as_json(getattr(made, name)) for name in TEXTS if getattr(made, name) is not None}
    files.write_npz(path, arrays | {"sha256": np.array(_sha256(arrays))})


def _own(made: Any) -> dict[str, np.ndarray]:
    """What a member of a blend does not share with the others."""
    arrays = {name: getattr(made, name) for name in OWN if getattr(made, name) is not None}
    arrays |= {f"extra_{name}": np.asarray(array, order="C") for name, array in made.extras.items()}
    return arrays | {"notes": _as_json(made.notes)}


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The fields of a recommender from its file, "members" being the fields of each that are not shared.

    Raises: SeaError for what is missing or damaged.
    """
    arrays = files.read_npz(path, None, SAVE_AGAIN)
    if "schema" not in arrays:
        raise SeaError(f"{path} is no recommender (it has no field schema).")
    schema = BLENDS if any(map(MEMBER.fullmatch, arrays)) else SCHEMA
    if not np.array_equal(arrays["schema"], schema):
        raise SeaError(f"{path}: field schema is not {schema}, the one that this version reads; {SAVE_AGAIN}.")
    for name in ("sha256", "user_ids", "item_ids", *SEEN, "notes"):
        if name not in arrays:
            raise SeaError(f"{path} has no field {name}; {SAVE_AGAIN}.")
    if str(arrays.pop("sha256")) != _sha256(arrays):
        raise SeaError(f"{path}: field sha256 says that this is not what was written; {SAVE_AGAIN}.")
    fields: dict[str, Any] = {"extras": {}}
    members: dict[int, dict] = {}
    for name, array in arrays.items():
        inner = MEMBER.fullmatch(name)
        if inner:
            own = members.setdefault(int(inner[1]), {"extras": {}})
            _put(own, inner[2], array, OWN, f"{path}: field {name}")
        else:
            _put(fields, name, array, ("user_ids", "item_ids", "schema", *SEEN, *OWN, *TEXTS), f"{path}: field {name}")
    del fields["schema"]
    return fields | {"members": [members[number] for number in sorted(members)]}


def _put(fields: dict[str, Any], name: str, array: np.ndarray, known: tuple[str, ...], where: str) -> None:
    """Puts an array of a file where a recommender has it."""
    if name.startswith("extra_"):
        fields["extras"][name.removeprefix("extra_")] = array
    elif name != "notes" and name not in known:
        raise SeaError(f"{where} is none of a recommender; {SAVE_AGAIN}.")
    elif name in ("notes", *TEXTS):
        try:
            fields[name] = json.loads(str(array))
        except (ValueError, RecursionError) as error:
            raise SeaError(f"{where} is no JSON; {SAVE_AGAIN}.") from error
    else:
        fields[name] = array


def _as_json(value) -> np.ndarray:
    return np.array(json.dumps(value, ensure_ascii=False))


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
