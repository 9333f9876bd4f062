"""The feature network behind fid_own: a function of the data set, trained once and cached."""

import logging
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from src.callbacks.quality import SampleQuality
from src.data.images import ImageSet
from src.metrics import features
from src.metrics.features import feature_net
from tests.conftest import ROOT, data_of

pytestmark = pytest.mark.usefixtures("few_steps")
DIGITS = ("model=gan", "data.size=16", "data.val_size=100", "data.test_size=300")


@pytest.fixture
def images():
    """256 images of gray noise, 28 x 28, in ten classes."""
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (256, 1, 28, 28), generator=noise, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(256) % 10)


@pytest.fixture
def lines(caplog, monkeypatch):
    """The logged lines."""
    monkeypatch.setattr(logging.getLogger("src"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


CODE = """
import sys, torch
from pathlib import Path
from src.data.images import ImageSet
from src.metrics import features
features.STEPS = 12
torch.set_num_threads(int(sys.argv[2]))
noise = torch.Generator().manual_seed(0)
pixels = torch.randint(0, 256, (256, 1, 28, 28), generator=noise, dtype=torch.uint8)
net = features.feature_net(ImageSet(pixels, torch.arange(256) % 10), 10, "noise", Path(sys.argv[1]))
assert torch.get_num_threads() == int(sys.argv[2])
print(net.digest())
"""


@pytest.mark.slow
def test_feature_net_does_not_depend_on_threads(tmp_path):
    digests = set()
    for threads in ("1", "2", "3"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        args = [sys.executable, "-c", CODE, str(tmp_path / threads), threads]
        done = subprocess.run(args, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_feature_net_ignores_autocast_and_inference_mode(images, tmp_path):
    plain = feature_net(images, 10, "noise", tmp_path / "a")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        other = feature_net(images, 10, "noise", tmp_path / "b")
    assert plain.digest() == other.digest()
    assert len(plain.digest()) == 12


def test_feature_net_keeps_random_state_and_threads(images, tmp_path):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    feature_net(images, 10, "noise", tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_feature_net_is_cached(images, tmp_path, monkeypatch):
    net = feature_net(images, 10, "noise", tmp_path)
    monkeypatch.setattr(features, "_fit", lambda *_: pytest.fail("trained again"))
    assert feature_net(images, 10, "noise", tmp_path).digest() == net.digest()


def test_feature_net_depends_on_images_labels_and_classes(images, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(features, "_fit", lambda *_: trained.append(1))
    feature_net(images, 10, "noise", tmp_path)
    feature_net(ImageSet(255 - images.images, images.labels), 10, "noise", tmp_path)
    feature_net(ImageSet(images.images, 9 - images.labels), 10, "noise", tmp_path)
    feature_net(images, 11, "noise", tmp_path)
    assert len(trained) == 4


@pytest.mark.parametrize(
    "cut",
    [
        "data.limit=64",
        "data.train_size=200",
        "data.val_size=0",
        "data.train_per_class=5",
        "augment=flip",
    ],
)
def test_feature_net_uses_the_full_training_set(config, cut):
    whole, part = data_of(config, *DIGITS), data_of(config, *DIGITS, cut)
    sources = [data.full_training_set() for data in (whole, part)]
    assert len(sources[0]) == 1497
    assert torch.equal(sources[0].images, sources[1].images)
    assert torch.equal(sources[0].labels, sources[1].labels)
    pixels = {image.numpy().tobytes() for image in sources[0].images}
    test = [image.numpy().tobytes() for image in whole.test.images]
    assert sum(image in pixels for image in test) < 3, "no test image, except duplicates"


@pytest.mark.parametrize(("val", "test"), [([1], []), ([], [1]), ([], [])])
def test_networks_are_prepared_before_training_if_they_are_needed(val, test):
    prepared = []
    callback = SampleQuality(1, None, 0, "")
    callback._prepare = prepared.append
    trainer = SimpleNamespace(world_size=1, datamodule=SimpleNamespace(val=val, test=test))
    callback.setup(trainer, SimpleNamespace(sample=print), "fit")
    assert bool(prepared) == bool(val or test)


def test_feature_net_sees_permuted_pixels(config):
    """Augmented training images are stored without the permutation, evaluation images with it."""
    more = ("data.permute=true", "augment=flip", "data.val_size=0")
    data = data_of(config, *DIGITS, *more)
    indices = torch.arange(20)
    whole = data.full_training_set()
    assert torch.equal(
        data.eval_images(data.train, indices)[0] * 255, whole.images[indices].float()
    )
    assert not torch.equal(data.train.images, whole.images)


def test_broken_feature_net_is_trained_again(images, tmp_path, lines):
    net = feature_net(images, 10, "noise", tmp_path)
    (path,) = (tmp_path / "features").iterdir()
    good = path.read_bytes()
    for bad in (good[:-100], b"", b"x" * 1000):
        path.write_bytes(bad)
        assert feature_net(images, 10, "noise", tmp_path).digest() == net.digest()
        assert any(f"{path} is damaged" in line for line in lines())
        assert len(path.read_bytes()) == len(good)
    torch.save([1, 2], path)
    assert feature_net(images, 10, "noise", tmp_path).digest() == net.digest()


def test_unwritable_feature_cache_is_logged(images, tmp_path, lines):
    (tmp_path / "file").write_text("no folder")
    net = feature_net(images, 10, "noise", tmp_path / "file")
    assert net.digest() == feature_net(images, 10, "noise", tmp_path / "good").digest()
    assert sum("is not cached" in line for line in lines()) == 1


def test_feature_net_logs_its_training(images, tmp_path, lines, monkeypatch):
    monkeypatch.setattr(features, "EVERY_N_SECONDS", 0)
    feature_net(images, 10, "noise", tmp_path)
    message = "\n".join(lines())
    assert "training 12 steps on all 256 images of noise, once for all runs" in message
    assert re.search(r"step 6 of 12, \d+ s left", message)
    assert "12 steps in" in message
