"""The workers of a Ray cluster leave what one machine leaves, whoever of them is killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from textwrap import dedent

import psutil
import pytest
import torch
from mounts import mounted
from test_extraction import same

from seglib import clips, cluster, extraction, faces, manifest
from seglib.cluster import NoCluster, RayMissing, Workers
from seglib.extraction import Extractor, Outcome
from seglib.store import Store, StoreMismatch

COPIES = 10


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three clips under many names, one that broke off, and one that is gone."""
    folder, detector = tmp_path_factory.mktemp("videos"), faces.load("mesh")
    for person, part in enumerate((None, "mouth", None)):
        clips.write(folder / f"{person} 0.mp4", person, detector, part)
        for copy in range(1, COPIES):
            shutil.copy(folder / f"{person} 0.mp4", folder / f"{person} {copy}.mp4")
    (folder / "corrupt.mp4").write_bytes((folder / "0 0.mp4").read_bytes()[:2000])
    names = [*sorted(path.name for path in folder.iterdir()), "gone.mp4"]
    return manifest.from_rows(
        {"video_uid": name, "path": str(folder / name), "label": int(name.startswith("1")),
         "dataset": "x", "split": "test"}
        for name in names
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(videos, small, tmp_path_factory):
    """What one process makes of them with the one thread that a worker has."""
    root, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    extractor = Extractor(small, "cpu")
    torch.set_num_threads(1)
    extraction.extract(videos, extractor, root)
    torch.set_num_threads(threads)
    return Store(root, small, extractor.networks)


@pytest.fixture(scope="module")
def ray():
    """A cluster of two cores, whatever this machine has."""
    ray = cluster.load()
    ray.init("local", num_cpus=2, num_gpus=0, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def two(ray, small):
    with Workers(small, 2) as workers:
        yield workers


def complete(root, alone, videos):
    """The store is that of one machine: row for row, and each file byte for byte."""
    found = Store.find(root, alone.recipe)
    same(found, alone, videos)
    for uid in videos.video_uid:
        assert found.path(uid).read_bytes() == alone.path(uid).read_bytes(), uid
    names = [sorted(path.name for path in one.folder.glob("videos/*")) for one in (found, alone)]
    assert names[0] == names[1]  # and no rest of a killed writer


@pytest.mark.slow
def test_two_workers_leave_what_one_machine_leaves(
    videos, alone, two, tmp_path, capsys, monkeypatch
):
    shares, share = [], cluster._share
    monkeypatch.setattr(cluster, "AT_ONCE", 10)
    monkeypatch.setattr(
        cluster, "_share", lambda todo, *rest: shares.append(len(todo)) or share(todo, *rest)
    )
    assert two.networks == alone.networks
    held = Store(tmp_path, alone.recipe, alone.networks).claim(videos.video_uid[1])
    count = len(videos)
    assert cluster.extract(videos, two, tmp_path) == Outcome(count - 1, 0, 1)
    assert shares == [20, count - 20]
    held.release()  # the other process died
    assert cluster.extract(videos, two, tmp_path) == Outcome(1, count - 1, 0)
    complete(tmp_path, alone, videos)
    outcome = alone.ledger(["corrupt.mp4", "gone.mp4"]).reason.str.partition(":")[0]
    assert outcome.tolist() == ["UnreadableVideo", "MissingFile"]
    assert cluster.extract(videos, two, tmp_path) == Outcome(0, count, 0)
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{count}/{count}" in told.err


def makers():
    """Our cluster's processes that describe and write."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile, as those do that are killed
            if "ray::MapWorker(Map(_Maker))" in "".join(one.cmdline()):
                found.append(one)
    return found


@pytest.mark.slow
def test_who_is_killed_is_started_again_and_nothing_is_lost(videos, alone, two, tmp_path):
    """kill -9 in the midst of the work: first one of the two workers, then both."""
    found = []

    def killing():
        for count in (1, 2):
            before = sum(made for made, _ in found)
            while not (made := len(list(tmp_path.rglob("*.parquet"))) - before):
                time.sleep(0.01)
            killed = 0
            for one in makers()[:count]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
                    killed += 1
            found.append((made, killed))

    killer = threading.Thread(target=killing, daemon=True)
    assert two.networks
    killer.start()
    outcome = cluster.extract(videos, two, tmp_path)
    killer.join(10)
    (first, one), (second, both) = found
    assert first + second < len(videos)  # there was work left to be killed in
    assert one == 1
    assert both >= 1
    assert (outcome.there, outcome.made + outcome.elsewhere) == (0, len(videos))
    complete(tmp_path, alone, videos)


@pytest.mark.slow
def test_a_driver_that_ends_midway_is_gone_on_from(videos, alone, two, tmp_path):
    """Killed, and by Ctrl-C."""
    manifest.write(videos, tmp_path / "manifest.csv")
    root, recipe, there = tmp_path / "store", two.recipe, 0
    command = [sys.executable, "-m", "seglib", "extract", tmp_path / "manifest.csv"]
    command += ["--engine", "ray", "--workers", "2", "--store", root, "--mode", "demo"]
    for name in ("backbone", "input_size", "frames"):
        command += ["--set", f"{name}={getattr(recipe, name)}"]
    address = {"RAY_ADDRESS": two._ray.get_runtime_context().gcs_address}
    for how in (signal.SIGKILL, signal.SIGINT):
        run = subprocess.Popen(command, env=os.environ | address, stderr=subprocess.PIPE, text=True)
        before = there
        while (there := len(list(root.rglob("*.parquet")))) == before:
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.01)
        run.send_signal(how)
        _, told = run.communicate()
        _, alive = psutil.wait_procs(makers(), 60)  # what they write still is not the next one's
        assert not alive
        there = len(list(root.rglob("*.parquet")))
    assert run.returncode == 130
    assert "the same command goes on from there" in told
    outcome = cluster.extract(videos, two, root)
    assert there <= outcome.there < len(videos)
    complete(root, alone, videos)


FULL = """
    import os
    import sys
    from seglib import cluster, manifest, recipe
    from seglib.files import CannotWrite

    table, root, backbone = manifest.read(sys.argv[1]), *sys.argv[2:]
    decisions = recipe.demo().but(backbone=backbone, input_size=140, frames=4)
    os.environ["RAY_ADDRESS"] = "local"  # none that runs already: it would have room
    with cluster.Workers(decisions, 1) as workers:
        try:
            cluster.extract(table, workers, root, tokens=True)
        except CannotWrite as error:
            print("refused:", error)
"""


@pytest.mark.slow
def test_a_full_disk_ends_it_with_that_very_error(videos, small, tmp_path):
    manifest.write(videos, tmp_path / "manifest.csv")
    (disk := tmp_path / "disk").mkdir()
    said = mounted(
        dedent(FULL), disk, "full", tmp_path / "manifest.csv", disk, small.backbone, size="600k"
    )
    assert re.search(r"refused: .*cannot be written: .*No space left", said), said


def test_a_worker_with_other_weights_refuses(small, videos, tmp_path):
    networks = Extractor(small, "cpu").networks
    store = Store(tmp_path, small, networks | {"precision": "bfloat16"})
    (row, *_) = videos.itertuples(index=False)
    told = cluster._Maker(store, False, "cpu")(cluster._read(row._asdict(), store))["found"]
    assert isinstance(told, StoreMismatch)
    assert "'precision': 'float32'" in str(told)
    assert not store.path(row.video_uid).exists()
    assert store.claim(row.video_uid) is not None  # it holds nothing any more


@pytest.mark.slow
def test_more_workers_than_there_is_room_for_are_refused(ray, small):
    with pytest.raises(NoCluster, match="3 workers for 2 x CPU"):
        Workers(small, 3)


@pytest.mark.slow
def test_what_a_worker_cannot_load_is_told_as_on_one_machine(ray, small, tmp_path):
    absent = small.but(backbone=str(tmp_path / "absent"))
    with pytest.raises(Exception) as here:  # noqa: PT011
        Extractor(absent)
    with Workers(absent) as workers, pytest.raises(type(here.value)) as there:
        _ = workers.networks
    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value)


def test_without_ray_it_is_told_what_to_install(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissing, match=r"pip install 'seglib\[ray\]'"):
        Workers(small)
