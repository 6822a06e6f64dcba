"""Bad input for every program, generated from tables: settings out of range, files that are none, outputs that cannot be."""

import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sea_jax.baselines import Baseline
from sea_jax.config import Config, kind_of
from sea_jax.raw.recipe import Recipe
from sea_jax.training.blends import Blend

SPACE = Path(__file__).parent.parent / "experiments" / "spaces" / "lightgcn.yaml"
BEYOND = (2**31, 2**63, 10**30)  # int32, int64, everything
TRAIN = (
    "--data_dir={data}",
    "--workdir={out}",
    "--batch_size=64",
    "--club_steps=2",
    "--topk=5,20",
    "--epochs=1",
    "--quiet",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A program, arguments that it must refuse, and what is done before: a function of the folder of the case."""

    name: str
    program: str
    arguments: tuple[str, ...]
    prepare: Callable[[], None]
    kept: Path  # where nothing may be written
    cwd: Path


def one_sentence(err: str) -> bool:
    """Whether stderr is one line that begins as errors do."""
    return err.startswith("error: ") and len(err.strip().splitlines()) == 1 and "Traceback" not in err


def listing(folder: Path) -> set:
    """Files with size and time, and folders; not a run's lock, which holds nothing."""
    found = ((path, path.lstat()) for path in folder.rglob("*") if path.name != "lock")
    return {(path, None if path.is_dir() else (at.st_size, at.st_mtime_ns)) for path, at in found}


def wrong_values(settings: type, left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Flags that a dataclass of settings must refuse: of another kind, out of range, not finite."""
    for field in dataclasses.fields(settings):
        if field.name in left_out:
            continue
        (kind, _), limits = kind_of(field), field.metadata
        if limits["choices"]:
            values = ["nothing"]
        elif kind is bool:
            values = ["maybe"]
        elif kind is int:
            low = limits["low"]
            values = ["x", "1.5", str(BEYOND[0] if limits["high"] is None else limits["high"] + 1), str(BEYOND[2])]
            values += [] if low is None else [str(low - 1)]
        elif kind is float:
            values = ["x", "nan", "inf", "1e-40", "1e39"]
            values += [] if limits["low"] is None and limits["above"] is None else ["-1"]
        else:
            values = []
        for value in values:
            yield f"--{field.name}={value}"


# What stands in a program's flags so that only the flag of the case is wrong.
GOOD = {
    "experiments/train": TRAIN,
    "experiments/evaluate": ("--workdir={run}", "--data_dir={data}"),
    "experiments/recommend": ("--workdir={run}", "--output={out}.csv"),
    "experiments/baselines": ("--data_dir={data}", "--workdir={out}", "--ridge=10", "--content_weight=1"),
    "experiments/blend": ("--runs={run},{again}", "--workdir={out}"),
    "experiments/search": (
        *TRAIN[:-1],
        "--backbone=lightgcn",
        "--learning_rate=1e-3",
        f"--space={SPACE}",
        "--trials=1",
    ),
    "experiments/reproduce": (
        "--table=main",
        "--data_dirs={data}",
        "--output={out}",
        "--trials=1",
        "--epochs=1",
        "--rows=ease",
    ),
    "experiments/export": ("--workdir={run}", "--output={out}"),
    "experiments/serve": ("--workdir={run}",),
    "experiments/report": ("--workdir={run}", "--output={out}"),
    "experiments/diversity_study": ("--workdir={run}", "--output={out}"),
    "experiments/compare": ("--first={run}", "--second={again}"),
    "experiments/replay": (),
    "experiments/mi_study": ("--quick", "--output={out}"),
    "experiments/separation_study": ("--quick", "--output={out}"),
    "data_prep/make_demo": ("--output={out}",),
    "data_prep/from_mmrec": ("--source={toys}", "--output={out}"),
    "data_prep/from_tables": ("--interactions={table}", "--features=text={toys}/text_feat.npy", "--output={out}"),
    "data_prep/from_lists": ("--train={lists}", "--features=text={toys}/text_feat.npy", "--output={out}"),
    "data_prep/from_recbole": ("--source={toys}", "--output={out}"),
    "data_prep/from_amazon": ("--output={out}",),
    "data_prep/from_microlens": ("--output={out}",),
    "data_prep/describe": ("--data_dir={data}",),
    "data_prep/encode": ("--items={table}", "--text_columns=user_id", "--output={out}"),
}

FLAGS = {
    "experiments/train": (
        *wrong_values(Config), "--topk=", "--data_dir=", "--workdir=", "--data_dir={out}", "--data_dir={table}",
        "--data_dir={empty}", "--workdir={table}", "--workdir={toys}", "--workdir={table}/below", "--devices=0",
        "--devices=99", "--devices=x", "--seed=4294967297", "--monitor=recall@9", "--monitor=", "--process_id=3",
        "--coordinator_address=x", "--num_processes=2", "--solosim_pairs=image", "--solosim_pairs=:", "--modalities=sound",
        "--knn_weights=1", "--knn_k=50", "--flagfile=nobody", "--flagfile={empty}", "--flagfile={packed}",
        "--flagfile={latin}", "--flagfile={utf16}", "--flagfile={itself}", "--flagfile=", "--nosuch=1", "stray",
        "--seeds=1,1", "--seeds=x", "--seeds=-1", "--seeds=4294967296",
    ),
    "experiments/search": (
        "--space=", "--space={out}", "--space={nothing}", "--space={table}", "--space={latin}", "--space={packed}",
        "--space={toys}", "--trials=0", "--trials=x", "--sampler_seed=-1", "--prune=maybe", "--eval_every=9",
        "--learning_rate=1", "--embedding_dim=7", "--data_dir=", "--data_dir={out}", "--workdir=", "--workdir={table}",
        "--workdir={toys}", "--workdir={run}", "--modalities=sound", "--nosuch=1",
    ),
    "experiments/reproduce": (
        "--table=none", "--data_dirs=", "--data_dirs={out}", "--data_dirs={table}", "--data_dirs={data},{data}", "--output=",
        "--output={table}", "--output={table}/below", "--rows=nobody", "--seeds=", "--seeds=1,1", "--seeds=x",
        "--sea_seeds=x", "--trials=0", "--epochs=0", "--patience=-1", "--learning_rate=nan", "--modalities=sound",
    ),
    "experiments/evaluate": (
        "--workdir=", "--workdir={out}", "--workdir={table}", "--workdir={data}", "--data_dir={toys}", "--data_dir={out}",
        "--checkpoint=first", "--export={data}", "--export=.", "--export={out}/deep/x.npz", "--beyond=maybe", "--by_user={data}",
        "--by_user=.", "--by_user={out}/deep/x.csv",
    ),
    "experiments/recommend": (
        "--workdir=", "--workdir={out}", "--k=0", "--k=-1", "--k=x", f"--k={BEYOND[2]}", "--output=", "--output=.",
        "--output={data}", "--output={out}/deep/x.csv", "--output={out}.txt", "--output={out}", "--users={nothing}", "--users={latin}", "--users={packed}",
        "--users={utf16}", "--users={out}", "--users={data}", "--users={table}", "--checkpoint=first",
        "--baskets={nothing}", "--baskets={out}", "--baskets={table}", "--baskets={latin}", "--baskets={packed}",
        "--new_items={out}", "--new_items={empty}", "--new_items={table}", "--new_items={nothing}", "--new_items={data}",
        "--new_items={latin}", "--image_root={out}", "--text_encoder=none", "--allow={nothing}", "--allow={table}",
        "--deny={out}", "--deny={utf16}", "--categories={table}", "--categories={nothing}", "--only_categories=none",
        "--save={out}.npz", "--exclude={table}", "--exclude={out}",
        "--boosts={table}", "--boosts={nothing}", "--diversity=2", "--diversity=-1", "--diversity=nan",
    ),
    "experiments/baselines": (
        *wrong_values(Baseline), "--data_dir=", "--data_dir={out}", "--data_dir={table}", "--workdir=",
        "--workdir={table}", "--workdir={toys}", "--workdir={run}", "--modalities=sound", "--topk=", "--monitor=recall@9",
        "--nosuch=1",
    ),
    "experiments/blend": (
        *wrong_values(Blend), "--runs=", "--runs={run}", "--runs={run},{run}", "--runs={run},", "--runs={run},{out}",
        "--runs={run},{table}", "--runs={run},{data}", "--data_dir={out}", "--data_dir={table}", "--data_dir={toys}",
        "--workdir=", "--workdir={table}", "--workdir={toys}", "--workdir={run}", "--topk=", "--monitor=recall@9",
        "--weights=0,0", "--weights=1", "--weights=1,2,3", "--weights=1,-1", "--weights=a,b", "--nosuch=1",
    ),
    "experiments/export": (
        "--workdir=", "--workdir={out}", "--workdir={table}", "--recommender={table}", "--format=xml", "--k=0", "--k=x",
        "--output=", "--output=.", "--output={data}", "--output={out}/deep/x.npz", "--checkpoint=first",
    ),
    "experiments/serve": (
        "--workdir=", "--workdir={out}", "--workdir={table}", "--recommender={table}", "--recommender={out}",
        "--port=x", "--port=70000", "--port=-1", "--host=nowhere.invalid", "--image_root={out}", "--nosuch=1",
    ),
    "experiments/report": (
        "--workdir=", "--workdir={out}", "--workdir={table}", "--workdir={run},{run}", "--data_dir={toys}", "--k=0",
        "--k=x", f"--k={BEYOND[2]}", "--map=flat", "--output=", "--output={table}", "--output={table}/below",
    ),
    "experiments/diversity_study": (
        "--workdir=", "--workdir={out}", "--lambdas=x", "--lambdas=", "--lambdas=2", "--lambdas=nan", "--k=1", "--k=x",
        "--k=1000", "--output=", "--output=.", "--output={data}", "--output={out}/deep/x.csv",
    ),
    "experiments/compare": (
        "--first=", "--second=", "--first=,", "--first={again}", "--first={run},{run}", "--first={out}", "--second={data}",
        "--k=0", "--k=x", "--split=train", "--data_dir={toys}", f"--k={BEYOND[2]}", "--second={again}", "--second={empty}",
        "--metric=", "--metric=auc", "--metric=recall@", "--metric=recall@0", "--metric=recall@x", "--metric=ndcg@1.5",
        f"--metric=recall@{BEYOND[0]}", f"--metric=recall@{BEYOND[2]}", "--bootstrap=-1", "--bootstrap=x", "--seed=-1",
        "--seed=x", "--output={data}", "--output=.", "--output={out}/deep/x.csv",
    ),
    "experiments/replay": (
        "", "--trajectory=", "--trajectory={out}", "--trajectory={table}", "--trajectory={pickled}",
        "--trajectory={data}/features.npz", "--trajectory={data}", "--trajectory={nothing}",
    ),
    "experiments/mi_study": (
        "--seed=-1", "--seed=4294967297", "--seed=x", "--output=", "--output={table}", "--output={table}/below",
        "--runs=0", "--fit_steps=0",
    ),
    "experiments/separation_study": (
        "--seed=-1", "--seed=4294967297", "--epochs=0", "--seeds=0", "--ureg=nan", "--ureg=inf", "--ureg=-1", "--output=",
        "--output={table}", "--output={table}/below",
    ),
    "data_prep/make_demo": (
        "--seed=-1", "--seed=4294967296", "--noise=nan", "--noise=inf", "--noise=-1", "--num_users=0", "--num_users=-5",
        *(f"--num_users={n}" for n in BEYOND), *(f"--num_items={n}" for n in BEYOND), "--num_items=1",
        "--mean_interactions=nan", "--mean_interactions=1e9", "--mean_interactions=1", "--factors=0",
        *(f"--factors={n}" for n in BEYOND), "--output=", "--output={toys}", "--output={table}", "--output={table}/below",
    ),
    "data_prep/from_mmrec": (
        "--source=", "--source={out}", "--source={table}", "--source={empty}", "--source={data}", "--modalities=sound",
        "--modalities=text,text", "--knn_k_max=0", "--knn_k_max=-1", "--knn_k_max=x", f"--knn_k_max={BEYOND[2]}",
        "--missing=median", "--output=", "--output={toys}", "--output={table}", "--output={table}/below",
    ),
    "data_prep/from_tables": (
        *wrong_values(Recipe), "--interactions=", "--interactions={out}", "--interactions={nothing}",
        "--interactions={toys}", "--interactions={utf16}x", "--items={out}", "--items={toys}", "--user_column=who",
        "--item_column=user_id", "--features=text", "--features=text={out}", "--features=text={table}",
        "--features=text={pickled}", "--features=a,b={toys}/text_feat.npy", "--features={toys}/text_feat.npy",
        "--encoding=klingon", "--since=yesterday", "--ratios=1", "--ratios=0.5,0.5", "--ratios=0,0,0", "--ratios=-1,1,1",
        "--k_core=1,2,3", "--k_core=1000", "--split_from={out}", "--output=", "--output={toys}", "--output={table}",
        "--test={nothing}", "--valid={out}",
    ),
    "data_prep/from_lists": (
        "--train=", "--train={out}", "--train={nothing}", "--train={toys}", "--features=", "--features=text",
        "--features=text={out}", "--seed=-1", "--seed=4294967296", "--output=", "--output={toys}", "--test={nothing}",
    ),
    "data_prep/from_recbole": (
        "--source=", "--source={out}", "--source={empty}", "--seed=-1", "--seed=4294967296", "--item_column=who",
        "--output=", "--output={toys}",
    ),
    "data_prep/from_amazon": ("", "--reviews={out}", "--seed=-1", "--output="),
    "data_prep/from_microlens": ("", "--seed=-1", "--output="),
    "data_prep/describe": (
        "--data_dir=", "--data_dir={out}", "--data_dir={toys}", "--data_dir={table}", "--output=", "--output=.",
        "--output={data}", "--output={out}/deep/x.html",
    ),
    "data_prep/encode": (
        "--items={out}", "--items={nothing}", "--items={toys}", "--text_columns=title", "--text_encoder=magic",
        "--image_root={out}", "--id_column=who", "--output=", "--output={table}", "--output={table}/below",
    ),
}  # fmt: skip

SAVES = ("--save=.", "--save={data}", "--save={out}/deep/x.npz", "--save={out}.csv", "--save={run}/new.npz")


def rows(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """A change of the lines of toys.inter."""

    def of(folder):
        path = folder / "toys.inter"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return of


def put(name: str, data: bytes) -> Callable[[Path], None]:
    """A file of its own content."""
    return lambda folder: (folder / name).write_bytes(data)


def header(claimed: str) -> bytes:
    """An npy file whose header claims a shape and a dtype."""
    text = f"{{{claimed}, 'fortran_order': False}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


MMREC = {
    "no rows": rows(lambda of: of[:1]),
    "nothing": put("toys.inter", b""),
    "no header": rows(lambda of: of[1:]),
    "a column less": rows(lambda of: ["userID\titemID", *of[1:]]),
    "a column twice": rows(lambda of: ["userID\titemID\titemID\tx_label", *of[1:]]),
    "commas": rows(lambda of: [line.replace("\t", ",") for line in of]),
    "short line": rows(lambda of: [*of, "1\t2"]),
    "word": rows(lambda of: [*of, "one\t2\t4.0\t0"]),
    "float id": rows(lambda of: [*of, "1.5\t2\t4.0\t0"]),
    "negative id": rows(lambda of: [*of, "-1\t2\t4.0\t0"]),
    "item without features": rows(lambda of: [*of, "1\t9\t4.0\t0"]),
    "user over int32": rows(lambda of: [*of, f"{2**31}\t2\t4.0\t0"]),
    "user over int64": rows(lambda of: [*of, f"{2**63}\t2\t4.0\t0"]),
    "item over int64": rows(lambda of: [*of, f"1\t{10**30}\t4.0\t0"]),
    "label 7": rows(lambda of: [*of, "1\t2\t4.0\t7"]),
    "label word": rows(lambda of: [*of, "1\t2\t4.0\ttrain"]),
    "no test": rows(lambda of: [line for line in of if not line.endswith("\t2")]),
    "no training": rows(lambda of: [line for line in of if not line.endswith("\t0")]),
    "not UTF-8": lambda folder: (folder / "toys.inter").write_bytes((folder / "toys.inter").read_bytes() + b"\xe9\t1\t4\t0\n"),
    "packed": lambda folder: (folder / "toys.inter").write_bytes(gzip.compress((folder / "toys.inter").read_bytes())),
    "UTF-16": lambda folder: (folder / "toys.inter").write_text((folder / "toys.inter").read_text(), encoding="utf-16"),
    "two .inter": put("other.inter", b"userID\titemID\tx_label\n"),
    "gap of users": rows(lambda of: [*of, "999999999\t2\t4.0\t0"]),
    "no map entry": lambda folder: (folder / "u_id_mapping.csv").write_text("user_id\tuserID\nu0\t0\n"),
    "one id, two users": lambda folder: (folder / "u_id_mapping.csv").write_text(
        "user_id\tuserID\n" + "".join(f"u{n % 5}\t{n}\n" for n in range(6))
    ),
    "one user, two ids": lambda folder: (folder / "u_id_mapping.csv").write_text(
        "user_id\tuserID\n" + "".join(f"u{n}\t{n % 5}\n" for n in range(6))
    ),
    "map of words": put("u_id_mapping.csv", b"user_id\tuserID\nu\tv\n"),
    "map without header": put("u_id_mapping.csv", b"u0\t0\n"),
    "map not UTF-8": put("u_id_mapping.csv", b"user_id\tuserID\n\xe9\t0\n"),
    "map empty": put("i_id_mapping.csv", b""),
    "40 GB": put("text_feat.npy", header("'descr': '<f4', 'shape': (100000, 100000)")),
    "overflowing shape": put("text_feat.npy", header(f"'descr': '<f4', 'shape': ({2**62}, 8)")),
    "negative shape": put("text_feat.npy", header("'descr': '<f4', 'shape': (-9, 5)")),
    "objects": put("text_feat.npy", header("'descr': '|O', 'shape': (9, 5)")),
    "code for a header": put("text_feat.npy", header("'descr': __import__('os'), 'shape': (9, 5)")),
    "nested header": put("text_feat.npy", header("'descr': " + "(" * 50 + ", 'shape': (9, 5)")),
    "npy of nothing": put("text_feat.npy", b""),
    "npy of words": put("text_feat.npy", b"not an array at all"),
    "strings": lambda folder: np.save(folder / "text_feat.npy", np.full((9, 5), "a")),
    "three axes": lambda folder: np.save(folder / "text_feat.npy", np.ones((9, 5, 2))),
    "one axis": lambda folder: np.save(folder / "text_feat.npy", np.ones(9)),
    "no columns": lambda folder: np.save(folder / "text_feat.npy", np.ones((9, 0))),
    "one column": lambda folder: np.save(folder / "text_feat.npy", np.ones((9, 1))),
    "other rows": lambda folder: np.save(folder / "text_feat.npy", np.ones((8, 5))),
    "no rows at all": lambda folder: np.save(folder / "text_feat.npy", np.ones((0, 5))),
    "complex": lambda folder: np.save(folder / "text_feat.npy", np.ones((9, 5), complex)),
    "all NaN": lambda folder: np.save(folder / "text_feat.npy", np.full((9, 5), np.nan)),
    "modality with comma": lambda folder: (folder / "text_feat.npy").rename(folder / "a,b_feat.npy"),
    "modality with newline": lambda folder: (folder / "text_feat.npy").rename(folder / "a\nb_feat.npy"),
    "modality without name": lambda folder: (folder / "text_feat.npy").rename(folder / "_feat.npy"),
    "features that are a folder": lambda folder: (folder / "sound_feat.npy").mkdir(),
    ".inter that is a folder": lambda folder: ((folder / "toys.inter").unlink(), (folder / "toys.inter").mkdir()),
}  # fmt: skip


def edit(change: Callable[[dict], object], name: str = "run.json") -> Callable[[Path], None]:
    """A change of a JSON file, as by hand; the hash of its content, which would tell all of them, is dropped."""

    def of(folder):
        value = json.loads((folder / name).read_text())
        value.pop("sha256", None)
        changed = change(value)
        (folder / name).write_text(json.dumps(value if changed is None else changed))

    return of


def setting(**values) -> Callable[[Path], None]:
    return edit(lambda record: record["config"].update(values))


RUN = {
    "an array": edit(lambda record: [record]),
    "a number": edit(lambda record: 1),
    "nothing": put("run.json", b""),
    "half": lambda folder: (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:400]),
    "no text": put("run.json", b"\xff\xfe\x00"),
    "deep": put("run.json", b"[" * 100_000),
    "deep object": put("run.json", b'{"config":' * 100_000),
    "number of 5000 digits": put("run.json", b'{"config": {"seed": ' + b"9" * 5000 + b'}, "data": {}}'),
    "config null": edit(lambda record: record.update(config=None)),
    "config list": edit(lambda record: record.update(config=[])),
    "no config": edit(lambda record: {"data": record["data"]}),
    "no data": edit(lambda record: {"config": record["config"]}),
    "data null": edit(lambda record: record.update(data=None)),
    "other data": edit(lambda record: record.update(data={"features.npz": "0"})),
    "unknown setting": setting(gamma=1),
    "embedding_dim": setting(embedding_dim=32),
    "embedding_dim huge": setting(embedding_dim=2**40),
    "embedding_dim word": setting(embedding_dim="64"),
    "embedding_dim null": setting(embedding_dim=None),
    "monitor": setting(monitor=20),
    "topk floats": setting(topk=[5.0, 20.0]),
    "topk number": setting(topk=5),
    "topk empty": setting(topk=[]),
    "layers": setting(layers=[2]),
    "data_dir": setting(data_dir=5),
    "backbone": setting(backbone="sae"),
    "other backbone": setting(backbone="sea"),
    "seed true": setting(seed=True),
    "seed NaN": setting(seed=float("nan")),
    "temperature infinite": setting(temperature=float("inf")),
    "modalities": setting(modalities=["sound"]),
    "modalities number": setting(modalities=[1]),
    "written over by hand": lambda folder: (folder / "run.json").write_text(
        (folder / "run.json").read_text().replace('"layers": 2', '"layers": 3')
    ),
    "no checkpoints": lambda folder: shutil.rmtree(folder / "checkpoints"),
    "empty checkpoint": lambda folder: (shutil.rmtree(folder / "checkpoints/1"), (folder / "checkpoints/1").mkdir()),
    "a file for a checkpoint": lambda folder: (shutil.rmtree(folder / "checkpoints/1"), put("checkpoints/1", b"")(folder)),
}  # fmt: skip

RECOMMENDER = {
    "nothing": b"", "words": b"no npz", "zip of nothing": b"PK\x05\x06" + bytes(18), "cut": None,
}  # fmt: skip

BUNDLE = {
    "manifest an array": put("manifest.json", b"[]"),
    "manifest deep": put("manifest.json", b"[" * 100_000),
    "manifest of nothing": put("manifest.json", b""),
    **{f"manifest without {name}": edit(lambda value, name=name: value.pop(name) and None, "manifest.json")
       for name in ("num_users", "modalities", "modality_order", "hashes", "interactions", "knn_k_max")},
    "manifest by hand": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"name": "demo"', '"name": "other"')
    ),
    "schema 99": edit(lambda value: value.update(schema=99), "manifest.json"),
    "a user more": edit(lambda value: value.update(num_users=61), "manifest.json"),
    "terabytes": edit(lambda value: value.update(num_users=2**40), "manifest.json"),
    "modality ../x": edit(lambda value: value.update(modality_order=["../x"], modalities={"../x": 3}), "manifest.json"),
    "hash of ../x": edit(lambda value: value["hashes"].update({"../../etc/passwd": "0"}), "manifest.json"),
    **{f"no {name}": lambda folder, name=name: (folder / name).unlink()
       for name in ("features.npz", "interactions.npz", "adjacency.npz", "item_neighbours.npz", "ids.npz")},
    "features of others": lambda folder: np.savez(folder / "features.npz", image=np.ones((3, 2), np.float32)),
    "pickled features": lambda folder: np.savez(folder / "features.npz", image=np.array([{}], object)),
    "features cut": lambda folder: put("features.npz", (folder / "features.npz").read_bytes()[:999])(folder),
}  # fmt: skip


def cases(folder: Path, run: Callable) -> list[Case]:
    """All of them; `run(program, *arguments)` makes the sound data that they spoil."""
    at = {name: folder / "given" / name for name in (
        "toys", "data", "run", "again", "out", "table", "lists", "empty", "nothing", "latin", "packed", "utf16", "itself",
        "pickled",
    )}  # fmt: skip
    make_sound(at, run)
    found = []

    def add(name, program, arguments, prepare=lambda: None, **other):
        where = {key: str(path) for key, path in {**at, **other}.items()}
        arguments = tuple(argument.format(**where) for argument in arguments if argument)
        found.append(Case(f"{program}: {name}", program, arguments, prepare, folder / "given", at["empty"]))

    for program, wrong in FLAGS.items():
        for flag in wrong:
            add(flag, program, (*GOOD[program], flag))
    for flag in SAVES:
        recommend = "experiments/recommend"
        add(f"new items, {flag}", recommend, (*GOOD[recommend], "--new_items={table}", flag))
    spoilt = folder / "given" / "spoilt"
    for source, table, users in (
        ("toys", MMREC, [("data_prep/from_mmrec", ("--source={spoilt}", "--output={out}"))]),
        ("run", RUN, [
            ("experiments/evaluate", ("--workdir={spoilt}",)),
            ("experiments/recommend", ("--workdir={spoilt}", "--checkpoint=latest", "--output={out}.csv")),
        ]),
        ("data", BUNDLE, [
            ("experiments/train", (*TRAIN, "--data_dir={spoilt}")),
            ("experiments/evaluate", ("--workdir={run}", "--data_dir={spoilt}")),
            ("data_prep/describe", ("--data_dir={spoilt}",)),
        ]),
    ):  # fmt: skip
        for name, spoil in table.items():
            for program, arguments in users:
                add(f"{source} with {name}", program, arguments, _spoiling(at[source], spoilt, spoil), spoilt=spoilt)
    whole = (at["run"] / "recommender.npz").read_bytes()
    for name, data in RECOMMENDER.items():
        spoil = put("recommender.npz", whole[:1000] if data is None else data)
        add(f"recommender of {name}", "experiments/recommend", ("--workdir={spoilt}", "--output={out}.csv"),
            _spoiling(at["run"], spoilt, spoil), spoilt=spoilt)  # fmt: skip
    return found


def _spoiling(sound: Path, spoilt: Path, spoil: Callable[[Path], object]) -> Callable[[], None]:
    def prepare():
        shutil.rmtree(spoilt, ignore_errors=True)
        shutil.copytree(sound, spoilt)
        spoil(spoilt)

    return prepare


def make_sound(at: dict[str, Path], run: Callable) -> None:
    """What the programs take: an MMRec folder, tables, a bundle, two runs; and files that are none."""
    draw = np.random.default_rng(0)
    for name in ("toys", "empty"):
        at[name].mkdir(parents=True)
    picks = [(user, item, max(0, n - 2)) for user in range(6) for n, item in enumerate(draw.permutation(8)[:5])]
    lines = "".join(f"{user}\t{item}\t4.0\t{label}\n" for user, item, label in picks)
    (at["toys"] / "toys.inter").write_text("userID\titemID\trating\tx_label\n" + lines)
    for name, width in (("image", 6), ("text", 5)):
        np.save(at["toys"] / f"{name}_feat.npy", draw.normal(size=(9, width)).astype(np.float32))
    for file, head, letter, count in (("u", "user_id\tuserID", "u", 6), ("i", "asin\titemID", "B00", 9)):
        text = "".join(f"{letter}{n}\t{n}\n" for n in range(count))
        (at["toys"] / f"{file}_id_mapping.csv").write_text(f"{head}\n{text}")
    at["table"].write_text("user_id,item_id\n" + "".join(f"u{user},{item}\n" for user, item, _ in picks))
    at["lists"].write_text(
        "".join(f"{user} {' '.join(str(i) for u, i, _ in picks if u == user)}\n" for user in range(6))
    )
    at["nothing"].write_bytes(b"")
    at["latin"].write_bytes(b"u\xe9\n")
    at["packed"].write_bytes(gzip.compress(b"--epochs=1\n"))
    at["utf16"].write_text("--epochs=1\n", encoding="utf-16")
    at["itself"].write_text(f"--flagfile={at['itself']}\n")
    with open(at["pickled"], "wb") as file:
        np.savez(file, x=np.array([{}], object))
    small = ("--num_users=60", "--num_items=50", "--mean_interactions=7", "--factors=2")
    assert run("data_prep/make_demo", f"--output={at['data']}", *small)[0] == 0
    model = ("--backbone=lightgcn", "--learning_rate=1e-2")
    for name in ("run", "again"):
        given = [argument.format(data=at["data"], out=at[name]) for argument in TRAIN]
        assert run("experiments/train", *given, *model)[0] == 0
