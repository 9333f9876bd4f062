"""TensorBoard in a real browser, on small runs of several families and on a small sweep."""

import csv
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest

from tests.browser import By, TimeoutException, all_text, chromium, needs_browser, wait
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, needs_browser]

SMALL = ("trainer.max_epochs=2", "trainer.log_every_n_steps=2", "trainer.accelerator=cpu")
IMAGES = ("data=digits", "data.limit=64", "data.batch_size=16", "data.val_size=32",
          "~callbacks.quality")  # fmt: skip
RUNS = {
    "cnn": ("model=cnn", *IMAGES, "callbacks.explanations.n_classes=2"),
    "dcgan": ("model=dcgan", *IMAGES, "model.net.generator.base_channels=4",
              "model.net.discriminator.base_channels=4"),
    "draw": ("model=draw", *IMAGES, "model.net.num_steps=3", "model.net.encoder_dim=8",
             "model.net.decoder_dim=8"),
    "words": ("model=word_vectors", "data=reviews"),
}  # fmt: skip
SWEEP = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", *RUNS["cnn"],
         "model.optimizer.lr=tag(log, interval(1e-3, 1e-1))", "augment=choice(none,translation)",
         "objective.metric=val/acc")  # fmt: skip
NOT = re.compile("callbacks|log_every_n_steps")  # no columns of HPARAMS
NODES = """
const visit = node => [node, ...(node.shadowRoot ? visit(node.shadowRoot) : []),
                       ...[...node.children].flatMap(visit)];
return visit(document.body).filter(node => node.nodeName === "IMG")
  .map(image => [image.complete && image.naturalWidth > 0, image.naturalWidth]);
"""


def train(*words):
    """Run src.train."""
    command = [sys.executable, "-m", "src.train", *words, *SMALL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


@contextmanager
def tensorboard(folder):
    """Start a TensorBoard that shows what is in `folder`; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0",
         "--load_fast=false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = next(line for line in process.stderr if "http://" in line)
        yield re.search(r"http://\S+", line)[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Train the runs; return the address of a TensorBoard that shows them."""
    folder = tmp_path_factory.mktemp("board")
    for name, settings in RUNS.items():
        train(f"hydra.run.dir={folder / name}", *settings)
    with tensorboard(folder) as found:
        yield found


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Run the sweep; return its jobs as rows of sweep.csv, and a TensorBoard's address."""
    folder = tmp_path_factory.mktemp("sweep")
    train(f"hydra.sweep.dir={folder}", *SWEEP)
    with (folder / "sweep.csv").open(newline="") as file:
        jobs = list(csv.DictReader(file))
    with tensorboard(folder) as found:
        yield jobs, found


@pytest.fixture(scope="module")
def browser():
    with chromium(1400, 1000) as driver:
        yield driver


def open_tab(browser, address, tab, *expected):
    """Open a tab and wait until all `expected` words appear in it; return all its lines."""
    browser.get("about:blank")
    browser.get(f"{address}#{tab}")
    try:
        wait(browser, lambda page: all(word in all_text(page) for word in expected), 120)
    except TimeoutException:
        pytest.fail(f"{expected} not in\n{all_text(browser)}")
    return all_text(browser).split("\n")


def expect_pictures(browser, n):
    """Wait until at least `n` pictures are shown, and expect that one of them is large."""
    wait(browser, lambda page: sum(ok for ok, _ in page.execute_script(NODES)) >= n)
    assert max(width for _, width in browser.execute_script(NODES)) >= 240


@pytest.fixture
def show(browser, address):
    """Return a function: a tab and words that appear in it -> all lines of the tab."""
    return partial(open_tab, browser, address)


@pytest.fixture
def show_sweep(browser, sweep):
    """Return the same function for the TensorBoard of the sweep."""
    return partial(open_tab, browser, sweep[1])


def test_time_series_list_each_run_once_and_the_test_last(show):
    lines = show("timeseries", "canvas", "z_test", "weights")
    start = lines.index("Run")
    assert lines[start + 1 : lines.index("All")] == list(RUNS)
    cards = [line for line in lines if line in ("train", "val", "z_test", "test")]
    assert cards == ["train", "val", "z_test"]


def test_scalars_open_with_curves(show):
    lines = show("scalars", "train/d_loss")
    tags = [line for line in lines if re.fullmatch(r"\w+/\w+", line)]
    assert tags[0].startswith("train/")
    assert not any(tag.startswith("test/") for tag in tags)


def test_images_are_shown(show, browser):
    show("images", "canvas/samples", "canvas_strips/reconstructions")
    expect_pictures(browser, 4)


def test_graph_of_a_run_has_the_name_of_its_family(show):
    lines = show("graphs", "Classifier", "input", "output")
    start = lines.index("(3)")
    assert lines[start + 1 : start + 4] == ["cnn", "dcgan", "draw"], "one graph for each run"


def test_histograms_name_the_kind_of_their_layer(show):
    lines = show("histograms", "weights/center.weight Embedding", "Conv2d")
    tags = {line for line in lines if line.startswith("weights/")}
    assert tags
    assert all(re.fullmatch(r"weights/[\w.]+ \w+ \d+(x\d+)+", tag) for tag in tags), tags


def test_hparams_show_the_settings_of_the_command_line_first(show):
    """The columns are those of one of the runs; TensorBoard does not say of which."""
    lines = show("hparams", "Hyperparameters", "trainer.max_epochs", "z_test/")
    names = lines[lines.index("Hyperparameters") + 1 : lines.index("augment")]
    first = [name for name in names if re.fullmatch(r"(model|data|trainer)[\w./]*", name)]
    given = [
        sorted(word.partition("=")[0] for word in (*SMALL, *settings) if not NOT.search(word))
        for settings in RUNS.values()
    ]
    assert first in given
    assert next(line for line in lines if "test/" in line).startswith("z_test/")


def test_text_has_the_command_the_config_and_the_metrics(show):
    lines = show("text", "command/text_summary")
    assert any(line.startswith("python -m src.train hydra.run.dir=") for line in lines)
    assert "config/text_summary" in lines or "config" in lines
    assert "metrics/text_summary" in lines or "metrics" in lines


def test_projector_shows_all_words(show, browser):
    show("projector")
    try:
        for _ in range(2):  # the plugin is a page with a page inside
            frame = wait(browser, lambda page: page.find_elements(By.TAG_NAME, "iframe"))[0]
            browser.switch_to.frame(frame)
        wait(browser, lambda page: "139" in all_text(page), 120)
        assert "words:" in all_text(browser)
    finally:
        browser.switch_to.default_content()


def test_jobs_of_a_sweep_are_named_by_what_differs(show_sweep, sweep):
    lines = show_sweep("timeseries", "z_test", "weights")
    names = lines[lines.index("Run") + 1 : lines.index("All")]
    assert sorted(names) == sorted(job["folder"] for job in sweep[0])
    assert len(names) == 3
    assert all(re.fullmatch(r"lr=0[.\d]+,augment=(none|translation)", name) for name in names)


def test_scalars_of_a_sweep_have_a_line_for_each_job(show_sweep, sweep):
    lines = show_sweep("scalars", "val/acc")
    assert {job["folder"] for job in sweep[0]} <= set(lines)


def test_images_of_a_sweep_are_shown(show_sweep, browser, sweep):
    lines = show_sweep("images", "feature_maps/conv1", *(job["folder"] for job in sweep[0]))
    assert lines.count("feature_maps/conv1") == 3, "one for each job"
    expect_pictures(browser, 3)


def test_hparams_of_a_sweep_are_the_swept_settings_and_then_the_objective(show_sweep, sweep):
    """The values are those of sweep.csv, with as many digits as the tab shows."""
    columns = ["augment", "model.optimizer.lr", "val/acc"]
    lines = show_sweep("hparams", "Show Metrics", *columns, *(job["folder"] for job in sweep[0]))
    start = lines.index("Show Metrics") + 1
    assert lines[start : start + 3] == columns
    for job in sweep[0]:
        at = lines.index(job["folder"], start) + 1
        augment, lr, acc = lines[at : at + 3]
        assert augment == job["augment"]
        assert float(lr) == pytest.approx(float(job["model.optimizer.lr"]), rel=1e-4)
        assert float(acc) == pytest.approx(float(job["val/acc"]), rel=1e-4)
