"""What goes wrong beside a run: kills, second writers, readers, edits by hand, full disks, Ctrl-C."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

import sea_jax
from benchmarks import bad_input, forked
from sea_jax import bundle as bundles
from sea_jax import cli, files
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import checkpoints, loop, runs, workdir

SMALL = {
    "backbone": "lightgcn", "batch_size": 64, "topk": (5, 20), "learning_rate": 1e-2, "patience": 0, "checkpoint_every": 1,
}  # fmt: skip


@pytest.fixture(scope="session")
def trained(demo, tmp_path_factory):
    """Folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("faults") / "run"
    runs.fit(bundles.load(demo), Config(data_dir=str(demo), epochs=2, **SMALL), folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(trained, tmp_path / "run")


def told(function, *arguments):
    """The sentence that a call ends with."""
    with pytest.raises(SeaError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def resumed(demo, folder, epochs=3):
    """The run in a folder after `epochs`, and what it told."""
    found = []
    runs.fit(bundles.load(demo), Config(data_dir=str(demo), epochs=epochs, **SMALL), folder, warn=found.append)
    return found


# A folder is written by one.


def test_the_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    with workdir.lock(tmp_path):
        message = told(workdir.lock(tmp_path).__enter__)
        assert f"is being written by process {os.getpid()} on " in message
    with workdir.lock(tmp_path):
        pass


def test_a_second_training_in_a_folder_is_refused_at_once(run, demo):
    before = bad_input.listing(run)
    with workdir.lock(run):
        assert "is being written by process" in told(resumed, demo, run)
    assert bad_input.listing(run) == before


def _hold(folder, held):
    with workdir.lock(folder):
        held.set()
        time.sleep(60)


def test_a_killed_process_lets_go_of_its_folder(tmp_path):
    held = forked.forks.Event()
    process = forked.forks.Process(target=_hold, args=(tmp_path, held))
    process.start()
    assert held.wait(60)
    assert f"process {process.pid} on" in told(workdir.lock(tmp_path).__enter__)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with workdir.lock(tmp_path):
        pass


def test_what_a_kill_leaves_of_a_file_is_no_hindrance(demo, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("tmp.7.run.json", "tmp.7.config.flags", "lock"):
        (folder / name).write_text("{")
    resumed(demo, folder, 1)
    assert not list(folder.glob("tmp.*"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "is not empty and holds no run" in told(resumed, demo, tmp_path / "other", 1)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_readers_change_nothing(run, demo):
    aside = run / "checkpoints" / "9.orbax-checkpoint-tmp"
    aside.mkdir()
    before = bad_input.listing(run)
    opened = runs.open_run(run)
    assert opened.parameters("latest")[1] == 2
    opened.recommender("latest")
    assert bad_input.listing(run) == before


@pytest.mark.slow
def test_a_reader_beside_a_training(demo, tmp_path):
    folder = tmp_path / "run"
    training = forked.start(
        "experiments/train", f"--data_dir={demo}", f"--workdir={folder}", *forked.SETTINGS, "--epochs=25",
        "--backbone=lightgcn", said=tmp_path / "said",
    )  # fmt: skip
    like, read = None, 0
    while training.process.is_alive():
        try:
            like = like or loop.prepare(bundles.load(demo), runs.readers(workdir.read_record(folder)[0]))
            read += int(loop.restore(like, folder / "checkpoints").progress.state.epoch) > 0
        except SeaError as error:
            assert "no run.json" in str(error)
    code, _, err = training.end()
    assert (code, err) == (0, "")
    assert read > 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 25
    code, out, err = forked.run(
        "experiments/evaluate", f"--workdir={folder}", "--checkpoint=latest", said=tmp_path / "said"
    )
    assert (code, err) == (0, "")
    assert "latest checkpoint, epoch 25" in out


# What a file holds is what was written.

EDITS = {
    "an array": "no JSON object", "a number": "no JSON object", "nothing": "no JSON", "half": "no JSON",
    "no text": "UTF-16", "deep": "no JSON", "deep object": "no JSON", "number of 5000 digits": "no JSON",
    "config null": "field config", "config list": "field config", "no config": "field config", "no data": "field data",
    "data null": "field data", "other data": "is not the data this run was trained on", "unknown setting": "gamma",
    "embedding_dim": "of other settings than run.json says", "embedding_dim huge": "--embedding_dim=1099511627776",
    "embedding_dim word": "--embedding_dim='64'", "embedding_dim null": "--embedding_dim=None", "monitor": "--monitor=20",
    "topk floats": "--topk=5.0", "topk number": "--topk=5", "topk empty": "--monitor=recall@20 needs --topk",
    "layers": "--layers=[2]", "data_dir": "--data_dir=5", "backbone": "--backbone=sae", "other backbone": "checkpoint",
    "seed true": "--seed=True", "seed NaN": "--seed=nan", "temperature infinite": "--temperature=inf",
    "modalities": "no modality 'sound'", "modalities number": "--modalities=1", "written over by hand": "sha256",
    "no checkpoints": "no checkpoint yet", "empty checkpoint": "ok", "a file for a checkpoint": "ok",
}  # fmt: skip


@pytest.mark.parametrize("name", bad_input.RUN)
def test_a_run_edited_by_hand(run, name):
    bad_input.RUN[name](run)
    if EDITS[name] == "ok":  # the one before is read
        assert runs.open_run(run).parameters("latest")[1] == 2
    else:
        assert EDITS[name] in told(lambda: runs.open_run(run).parameters("latest"))


METRICS = {
    "an array": ("[1]\n", 0), "no epoch": ('{"loss": 1}\n', 0),
    "a gap": ('{"epoch": 1}\n{"epoch": 3}\n', 1), "true": ('{"epoch": true}\n', 0), "twice": ('{"epoch": 1}\n' * 2, 1),
    "torn": ('{"epoch": 1}\n{"epoch": 2, "lo', 1), "no UTF-8": (b'{"epoch": 1}\n\xff\n', 1),
    "a list inside": ('{"epoch": 1, "loss": [1]}\n', 0), "deep": ("[" * 100_000 + "\n", 0),
    "a blank line": ('{"epoch": 1}\n\n{"epoch": 2}\n', 1), "whole": ('{"epoch": 1, "loss": null}\n{"epoch": 2}\n', 2),
    "many digits": ('{"epoch": ' + "9" * 5000 + "}\n", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_cut_where_they_stop_making_sense(tmp_path, name):
    text, kept = METRICS[name]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert [record["epoch"] for record in workdir.cut_metrics(path, 9)] == list(range(1, kept + 1))
    assert len(path.read_text().splitlines()) == kept


def test_edited_metrics_do_not_stop_a_resumed_run(run, demo):
    (run / "metrics.jsonl").write_bytes(b"[1]\n\xff")
    resumed(demo, run)
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [3]


def test_a_flipped_bit_in_a_checkpoint_is_noticed(run, demo):
    largest = max((run / "checkpoints" / "2").rglob("d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    messages = resumed(demo, run)
    # In an array's bytes only the checksum notices it; in what orbax keeps beside them, orbax does.
    assert "its numbers are not those that were written" in messages[0] or "cannot be read" in messages[0]
    assert "resuming after epoch 1" in messages


def test_other_numbers_than_were_written_are_noticed(run, demo, monkeypatch):
    monkeypatch.setattr(checkpoints, "checksum", lambda tree: 1)
    with pytest.raises(SeaError, match=r"no checkpoint in .* can be read"):
        resumed(demo, run)


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_an_edited_object_of_right_form_is_noticed(run, name):
    path = run / name
    path.write_text(path.read_text().replace("999", "998"))
    assert "sha256" in told(workdir.read_record if name == "run.json" else workdir.read_summary, run)


def test_an_edited_manifest_is_noticed_and_an_old_one_read(demo, tmp_path):
    copy = shutil.copytree(demo, tmp_path / "demo")
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"name": "demo"', '"name": "dome"'))
    assert "sha256" in told(bundles.load, copy)
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    path.write_text(json.dumps(manifest))
    assert bundles.load(copy).name == "dome"


# Where a program writes.


def test_links_are_written_through(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("new")
    for name in ("link", "dangling"):
        files.write_text(tmp_path / name, "ü")
        assert (tmp_path / name).is_symlink()
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in ("target", "new")] == ["ü", "ü"]


def test_devices_stay_devices():
    files.write_text(os.devnull, "nothing")
    files.write_table("/dev/stdout" if os.path.exists("/dev/stdout") else os.devnull, ("a",), [])
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("name", ["", ".", "folder"])
def test_what_is_no_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert "is no file to write to" in told(files.write_text, name, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_write_names_the_file_and_leaves_the_old_one(tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(OSError, match="old") as caught, files.whole(tmp_path / "old"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


# Programs, from outside.


@pytest.mark.parametrize("largest", [1_000, 20_000])
@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_run_goes_on(demo, tmp_path, largest):
    folder = tmp_path / "run"
    code, _, err = forked.train(demo, folder, "lightgcn", largest=largest).end()
    assert code == 1
    assert bad_input.one_sentence(err), err
    code, _, err = forked.train(demo, folder, "lightgcn").end()
    assert (code, err) == (0, "")


@pytest.mark.slow
def test_ctrl_c_saves_the_last_epoch_and_the_run_goes_on_bit_for_bit(demo, tmp_path):
    given = (
        "experiments/train",
        f"--data_dir={demo}",
        *forked.SETTINGS,
        "--backbone=lightgcn",
        "--checkpoint_every=500",
    )

    def train(name, *more):
        return forked.start(*given, f"--workdir={tmp_path / name}", *more, said=tmp_path / f"{name}.said")

    program = train("stopped", "--epochs=2000")
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while program.process.is_alive() and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        time.sleep(0.005)
    os.kill(program.process.pid, signal.SIGINT)
    code, _, err = program.end()
    assert code == 130
    epoch = len(metrics.read_text().splitlines())
    assert err.splitlines()[-1] == f"stopped after epoch {epoch}; the same command resumes."
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == [str(epoch)]
    for name in ("stopped", "whole"):
        assert train(name, f"--epochs={epoch + 2}").end()[0] == 0
    stopped, whole = (forked.result(tmp_path / name, epoch + 2) for name in ("stopped", "whole"))
    assert stopped == whole


def test_a_flagfile_after_a_blank_is_looked_up_like_one_after_an_equals_sign(tmp_path):
    (tmp_path / "own.flags").write_bytes(b"\xef\xbb\xbf# mine\r\n--epochs=3\r\n\r\n--noresume\r\n")
    for given in ([f"--flagfile={tmp_path / 'own.flags'}"], ["--flagfile", str(tmp_path / "own.flags")]):
        assert cli.expand([*given, "--seed=1"]) == ["--epochs=3", "--noresume", "--seed=1"]
    assert "nobody.flags is neither" in told(cli.expand, ["--flagfile", "nobody.flags"])
    assert "--flagfile= is neither" in told(cli.expand, ["--flagfile"])


def test_seeds_that_are_none_are_refused_everywhere(tmp_path):
    for program in ("experiments/mi_study", "experiments/separation_study", "data_prep/make_demo"):
        for seed in (-1, 2**32, 2**32 + 1):
            given = (program, f"--output={tmp_path / 'out'}", f"--seed={seed}")
            code, _, err = forked.run(*given, said=tmp_path / "said")
            assert code == 1
            assert bad_input.one_sentence(err), err
            assert "seed" in err
    assert not (tmp_path / "out").exists()


def test_the_best_epoch_does_not_depend_on_stops(demo, tmp_path):
    bundle = bundles.load(demo)
    settings = SMALL | {"eval_every": 9}
    at_once = runs.fit(bundle, Config(epochs=4, **settings), tmp_path / "once")
    for epochs in (2, 4):
        stopped = runs.fit(bundle, Config(epochs=epochs, **settings), tmp_path / "twice")
    assert stopped.summary["best_epoch"] == at_once.summary["best_epoch"]
    assert stopped.metrics == at_once.metrics


def test_ids_and_texts_do_not_depend_on_the_locale(tmp_path):
    features = {"text": np.ones((2, 3)) + np.arange(2)[:, None]}
    bundle = sea_jax.build("ä", [("ü", "ö"), ("ü", "é")], features, item_ids=["ö", "é"])
    bundle.save(tmp_path / "given")
    program = [sys.executable, str(forked.ROOT / "data_prep" / "describe.py"), f"--data_dir={tmp_path / 'given'}"]
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*program, f"--output={tmp_path / 'page.html'}"], env=os.environ | other, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "ä" in (tmp_path / "page.html").read_text(encoding="utf-8")
