"""CycleGAN: its nets against the paper's sizes, a step against the step written out, its pool, its data, what it translates."""

import copy
import csv

import numpy as np
import pytest
import torch
from PIL import Image

from src import build
from src.augment import augment
from src.config import check, compose
from src.data.folder import decode
from src.data.pixels import wintered
from src.errors import Incomplete, UserError
from src.models.cyclegan import CycleGAN, ImagePool
from src.nets.cyclegan import InstanceNorm, discriminator, generator
from src.randomness import seed_of
from src.sample import sample
from src.train import train
from src.translate import translate
from tests.conftest import TINY, call, command, data_of, saved, weights_of, wrong
from tests.test_resume import assert_same_run, cut_and_resumed

SMALL = ("model=cyclegan", "model.generator.width=4", "model.generator.blocks=1", "model.discriminator.width=4")
NET = (*TINY, *SMALL, "data.size=16", "data.limit=null", "data.cache=null", "test=false")
# 32 images of each domain, batch 8: four batches an epoch
RUN = (*NET, "data=winter", "data.batch_size=8", "data.val_size=4", "data.test_size=4", "trainer.max_epochs=3",
       "trainer.log_every_n_steps=1", "checkpoint.every_n_batches=null", "model.pool=20")  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes, 36 coloured noises each, no two alike."""
    root, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir()
        for i in range(36):
            Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def uncut(photos, tmp_path_factory):
    """The folder of a whole run, with its pictures."""
    cfg = compose("train", [*RUN, f"data.root={photos}", "callbacks=default", "augment=flip"])
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("uncut") / "run")
    train(cfg, folder)
    return folder


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_parameters_are_the_papers_without_the_biases_that_a_norm_takes_away():
    """The authors' own nets at 256 pixels have 11,378,179 and 2,764,737 parameters, with a bias before each norm."""
    assert count(generator(3, 256)) == 11_378_179 - (64 + 128 + 256 + 9 * 2 * 256 + 128 + 64)
    assert count(generator(3, 128)) == count(generator(3, 256)) - 3 * 2 * 256 * 256 * 9
    assert count(discriminator(3, 256)) == 2_764_737 - (128 + 256 + 512)


@pytest.mark.parametrize(("size", "scores", "seen"), [(256, 30, 70), (128, 14, 70), (64, 14, 34), (32, 14, 16)])
def test_a_score_sees_a_patch(size, scores, seen):
    """The field is found by its gradient; the norms, which look at all of an image, are left out for it."""
    net = discriminator(3, size, width=2)
    for i, layer in enumerate(net):
        if isinstance(layer, InstanceNorm):
            net[i] = torch.nn.Identity()
    x = torch.rand(1, 3, size, size, requires_grad=True)
    out = net(x)
    assert out.shape == (1, 1, scores, scores)
    out[0, 0, scores // 2, scores // 2].backward()
    rows = x.grad[0].abs().sum((0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == seen


def test_an_image_is_translated_alike_in_every_batch_and_mode():
    net = generator(3, 32, width=4, blocks=2)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    assert torch.allclose(net(x)[:1], net.eval()(x[:1]), atol=1e-5)
    assert net(x).shape == x.shape
    assert net(x).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_instance_norm_is_torchs(dtype):
    x = (torch.randn(3, 5, 6, 7) * 4 + 2).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        ours = InstanceNorm()(x)
    assert ours.dtype is dtype
    assert torch.allclose(ours.float(), torch.nn.InstanceNorm2d(5)(x.float()), atol=1e-5 if dtype is torch.float32 else 2e-2)


def test_the_first_convolution_sees_a_reflected_border():
    net = generator(1, 16, width=1)
    x = torch.arange(256.0).view(1, 1, 16, 16)
    padded = np.pad(x[0, 0].numpy(), 3, mode="reflect")
    assert np.array_equal(net[0](x)[0, 0].numpy(), padded)
    residual = net[10].body
    assert np.array_equal(residual[0](x)[0, 0].numpy(), np.pad(x[0, 0].numpy(), 1, mode="reflect"))


@pytest.mark.parametrize("size", [18, 12])
def test_sides_that_cannot_be_halved_twice_are_refused(config, photos, size):
    with pytest.raises(UserError, match=f"a side of {size} is no multiple of 4, 16 or more"):
        build.model(config(*NET, "data=winter", f"data.root={photos}", f"data.size={size}"))


def test_one_step_equals_the_step_written_out(config, photos, tmp_path):
    """Zhu 2017, eq. 3 and section 5.2, each net asked about each domain for itself. Slips: half of the generators' objective,
    identity of the wrong domain, discriminators that learn from the generators' step."""
    cfg = config(*RUN, f"data.root={photos}", "data.limit=8", "trainer.max_epochs=1", "model.identity=0.3", "model.cycle=7")
    torch.manual_seed(0)
    data, model = build.data(cfg), build.model(cfg)
    g, f, d_a, d_b = (copy.deepcopy(net) for net in (model.g, model.f, model.d_a, model.d_b))
    (rows,) = iter(data._loader(data.train, training=True).sampler)
    a, b = (pixels.float() / 255 * 2 - 1 for pixels in data.train[rows])
    build.trainer(cfg, tmp_path, 0).fit(model, datamodule=data)

    def l1(x, y):
        return (x - y).abs().mean()

    fake_b, fake_a = g(a), f(b)
    fooled = (d_b(fake_b) - 1).square().mean() + (d_a(fake_a) - 1).square().mean()
    cycle, identity = l1(f(fake_b), a) + l1(g(fake_a), b), l1(g(b), b) + l1(f(a), a)
    optimizer = torch.optim.Adam([*g.parameters(), *f.parameters()], 2e-4, betas=(0.5, 0.999))
    (fooled + 7 * cycle + 7 * 0.3 * identity).backward()
    optimizer.step()
    optimizer = torch.optim.Adam([*d_a.parameters(), *d_b.parameters()], 2e-4, betas=(0.5, 0.999))
    optimizer.zero_grad()
    for d, real, fake in ((d_a, a, fake_a), (d_b, b, fake_b)):  # the pools are not full: these very fakes
        (0.5 * ((d(real) - 1).square().mean() + d(fake.detach()).square().mean())).backward()
    optimizer.step()
    for ours, by_hand in ((model.g, g), (model.f, f), (model.d_a, d_a), (model.d_b, d_b)):
        for (name, x), y in zip(ours.named_parameters(), by_hand.parameters(), strict=True):
            assert torch.allclose(x, y, atol=1e-5), name


def test_without_identity_no_net_is_asked_about_its_own_domain(config, photos, tmp_path):
    cfg = config(*RUN, f"data.root={photos}", "data.limit=8", "trainer.max_epochs=1", "model.identity=0")
    model, seen = build.model(cfg), []
    model.g.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    build.trainer(cfg, tmp_path, 0).fit(model, datamodule=build.data(cfg))
    assert seen[:2] == [8, 8]


def test_the_rate_stays_and_then_falls_to_nothing(config):
    schedule = build.model(config(*SMALL, "data=winter", "data.root=x")).schedule
    assert [round(schedule(p), 9) for p in (0, 0.25, 0.5, 0.75, 0.9)] == [1, 1, 1, 0.5, 0.2]


def test_the_pool_fills_then_half_of_the_fakes_are_older_ones():
    torch.manual_seed(0)
    pool, number = ImagePool(50, (1, 2, 2)), 0
    known: list[float] = []

    def fakes(n):
        nonlocal number
        number += n
        return torch.arange(number - n, number).float().view(n, 1, 1, 1).expand(n, 1, 2, 2)

    for n in (7, 16, 16, 11):
        batch = fakes(n)
        assert torch.equal(pool(batch), batch)
    assert pool.filled == 50
    old, swaps = 0, 0
    for _ in range(200):
        before = set(pool.images[:, 0, 0, 0].tolist())
        batch = fakes(16)
        out = pool(batch)
        values, given = out[:, 0, 0, 0].tolist(), batch[:, 0, 0, 0].tolist()
        after = set(pool.images[:, 0, 0, 0].tolist())
        for value, own in zip(values, given, strict=True):
            assert value == own or (value in before and value not in after and own in after)
        old += sum(value != own for value, own in zip(values, given, strict=True))
        swaps += 16
        known += values
        assert len(after) == 50
    assert old / swaps == pytest.approx(0.5, abs=0.03)
    assert len(set(known)) == len(known), "an old fake is passed on once, and then gone"


def test_a_pool_of_none_passes_on_and_one_of_few_swaps_each_once():
    assert torch.equal(ImagePool(0, (1, 2, 2))(torch.ones(3, 1, 2, 2)), torch.ones(3, 1, 2, 2))
    torch.manual_seed(0)
    pool = ImagePool(2, (1, 1, 1))
    pool(torch.zeros(2, 1, 1, 1))
    out = pool(torch.arange(1.0, 41).view(40, 1, 1, 1))
    assert (out == 0).sum() == 2


def test_winter_is_the_same_map_at_every_pixel():
    image = np.random.default_rng(0).random((2, 3, 4, 5))
    luma = 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]
    expected = np.stack([0.25 * image[:, k] + 0.25 * luma + 0.5 * white for k, white in enumerate((0.85, 0.95, 1.0))], 1)
    assert np.allclose(wintered(torch.tensor(image)).numpy(), expected, atol=1e-7)


def test_no_image_is_in_both_domains_and_those_held_out_are_paired(config, photos):
    data = data_of(config, *NET, "data=winter", f"data.root={photos}", "data.test_size=8", "data.val_size=4")
    assert (len(data.train), len(data.val), len(data.test)) == (30, 4, 8)
    a, b = data.train[torch.arange(30)]

    def wintery(images):
        return (wintered(images.float() / 255) * 255).round().byte()

    differences = (wintery(a).unsqueeze(1).float() - b.unsqueeze(0)).abs().amax((2, 3, 4))
    assert differences.min() > 5
    everything = {decode(path, None, 3).numpy().tobytes() for path in photos.rglob("*.png")}
    assert all(image.numpy().tobytes() in everything for image in a)
    for part in (data.test, data.val):
        of_a, of_b = part[torch.arange(len(part))]
        assert torch.equal(wintery(of_a), of_b)


def test_both_domains_are_shuffled_each_for_itself(config, photos):
    data = data_of(config, *RUN, f"data.root={photos}")
    sampler = data._loader(data.train, training=True).sampler
    first, second = (torch.cat(list(sampler)) for _ in range(2))
    assert torch.equal(first, second), "an epoch's order is a function of it"
    sampler.position = lambda: (1, 0)
    other = torch.cat(list(sampler))
    for order in (first, other):
        assert order[:, 0].sort().values.tolist() == order[:, 1].sort().values.tolist() == list(range(32))
        assert (order[:, 0] == order[:, 1]).sum() < 8
    assert not torch.equal(first[:, 0], other[:, 0])
    assert not torch.equal(first[:, 1], other[:, 1])


def test_two_folders_of_unequal_size(config, tmp_path):
    """The smaller begins again; each is cut for itself; nothing below is missed."""
    for name, n in (("a", 9), ("b/more", 20)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    roots = (f"data.root_a={tmp_path / 'a'}", f"data.root_b={tmp_path / 'b'}")
    data = data_of(config, *NET, "data=unpaired", *roots, "data.val_size=1", "data.test_size=4")
    assert (len(data.train), len(data.val), len(data.test)) == (15, 1, 4)
    a, b = data.train[torch.arange(15)]
    assert a[:, 0, 0, 0].tolist() == (a[:4, 0, 0, 0].tolist() * 4)[:15]
    assert len(b[:, 0, 0, 0].unique()) == 15
    held_out = torch.cat([part[torch.arange(len(part))][1][:, 0, 0, 0] for part in (data.val, data.test)])
    assert not set(held_out.tolist()) & set(b[:, 0, 0, 0].tolist())
    assert not data.paired


def test_augmentation_changes_both_domains_each_image_by_draws_of_its_own(config, photos):
    data = data_of(config, *RUN, f"data.root={photos}", "augment=flip")
    (rows,) = list(data._loader(data.train, training=True).sampler)[:1]
    batch = (*data.train[rows], rows)
    data.trainer = type("T", (), {"training": True, "fit_loop": _at_epoch(2)})()
    for given, out in zip(batch[:2], data.on_after_batch_transfer(batch, 0), strict=True):
        x = given.float() / 255
        kept, turned = ((out == y).flatten(1).all(1) for y in (x, x.flip(3)))
        assert (kept | turned).all()
        assert 0 < turned.sum() < 8


def _at_epoch(epoch):
    class Loop:
        class epoch_progress:
            class current:
                processed = epoch

    return Loop


@pytest.mark.parametrize("cut", [1, 4, 7, 12])
def test_cut_at_a_batch(uncut, photos, config, tmp_path, monkeypatch, cut):
    """Both pools, which fill in the third batch, both optimisers, both orders and the augmentation must come again."""
    cfg = config(*RUN, f"data.root={photos}", "callbacks=default", "augment=flip")
    assert_same_run(uncut, cut_and_resumed(CycleGAN, cfg, tmp_path, monkeypatch, cut))


def test_the_pictures_hold_what_was_made_and_what_came_back(uncut, config):
    cfg, model, _ = build.opened(uncut)
    data = build.data(cfg)
    a, b = data.val[torch.arange(4)]
    rows = model.compared(a.float() / 255, b.float() / 255)
    assert rows.shape == (4, 6, 3, 16, 16)
    assert torch.equal(rows[:, 0], a.float() / 255)
    made = (model.g(rows[:, 0] * 2 - 1) + 1) / 2
    back = (model.f(made * 2 - 1) + 1) / 2
    assert torch.allclose(rows[:, 1], made, atol=1e-5)
    assert torch.allclose(rows[:, 2], back, atol=1e-5)
    assert torch.allclose(rows[:, 4], (model.f(rows[:, 3] * 2 - 1) + 1) / 2, atol=1e-5)
    names = [path.name for path in sorted((uncut / "images").glob("samples*"))]
    assert names == ["samples.gif", *(f"samples_{n:08d}.png" for n in (1, 2, 4, 8, 12))]
    picture = np.asarray(Image.open(uncut / "images" / "samples_00000012.png"))
    shown = picture[2 : 2 + 32, 2 : 2 + 32].reshape(16, 2, 16, 2, 3)[:, 0, :, 0]
    assert np.array_equal(shown, a[0].permute(1, 2, 0).numpy())


def test_psnr_is_of_each_image_and_of_the_truth(config, photos, tmp_path):
    """By NumPy, and beside it that of the image left as it is."""
    cfg = config(*RUN, f"data.root={photos}", "test=true", "trainer.max_epochs=1", "data.eval_batch_size=3")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    _, model, _ = build.opened(tmp_path / "run")
    a, b = (x.float().numpy() / 255 for x in build.data(cfg).test[torch.arange(4)])

    def decibels(said, true):
        return float(np.mean([-10 * np.log10(((x - y) ** 2).mean()) for x, y in zip(said, true, strict=True)]))

    assert values["test/psnr_untranslated"] == pytest.approx(decibels(a, b), abs=1e-3)
    assert values["test/psnr_b"] == pytest.approx(decibels(model.translate(torch.tensor(a)).numpy(), b), abs=1e-3)
    assert values["test/psnr_a"] == pytest.approx(decibels(model.translate(torch.tensor(b), "a").numpy(), a), abs=1e-3)
    assert values["test/ssim_b"] <= 1


def test_unpaired_domains_have_no_truth(config, photos, tmp_path):
    roots = (f"data.root_a={photos / 'cats'}", f"data.root_b={photos / 'dogs'}")
    cfg = config(*NET, "data=unpaired", *roots, "trainer.max_epochs=1", "data.batch_size=1", "data.limit=5", "test=true")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["batches"] == 5, "a batch of one is what the paper asks for"
    assert {name for name in values if name.startswith("test/")} == {"test/cycle_a", "test/cycle_b"}


def test_any_size_is_translated_and_none_is_shifted(uncut):
    _, model, _ = build.opened(uncut)
    x = torch.rand(1, 3, 21, 30)
    assert model.translate(x).shape == x.shape
    whole = torch.rand(1, 3, 20, 32)
    assert torch.equal(model.translate(whole), (model.g(whole * 2 - 1) + 1) / 2)


def test_a_folder_in_a_folder_out(uncut, tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    noise = np.random.default_rng(1)
    for name in ("a.png", "a.jpg", "deep/b.png"):
        Image.fromarray(noise.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    ask = (f"run={uncut}", f"images={tmp_path / 'in'}", "to=a")
    call("translate", translate, *ask, f"out={tmp_path / 'out'}")
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png"))
    assert made == ["a.png", "a.png.png", "deep/b.png"]  # a.jpg came first
    _, model, _ = build.opened(uncut)
    image = decode(tmp_path / "in" / "deep" / "b.png", None, 3).unsqueeze(0) / 255
    expected = (model.translate(image, "a") * 255).round().byte()[0]
    assert torch.equal(decode(tmp_path / "out" / "deep" / "b.png", None, 3), expected)
    with pytest.raises(UserError, match="is there and not empty"):
        call("translate", translate, *ask, f"out={tmp_path / 'out'}")
    (tmp_path / "in" / "bad.png").write_text("nothing")
    with pytest.raises(Incomplete, match=r"bad\.png is not a readable image"):
        call("translate", translate, *ask, f"out={tmp_path / 'again'}", "size=16")
    assert decode(tmp_path / "again" / "deep" / "b.png", None, 3).shape == (3, 16, 16)
    assert len(list((tmp_path / "again").rglob("*.png"))) == 3


def test_a_trained_run_augments_a_folder(uncut, photos, tmp_path):
    """Labels, originals and split stay; the manifest names the run; the same seed, the same bytes."""
    settings = (f"data.root={photos}", "data.test_size=40", "data.val_size=0", "augment=model", f"augment.run={uncut}")
    for out in ("out", "again"):
        call("augment", augment, *settings, f"out={tmp_path / out}")
    out = tmp_path / "out"
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    assert all(str(uncut) in row["transforms"] for row in rows)
    _, model, _ = build.opened(uncut)
    row = rows[5]
    image = decode(out / row["source"], None, 3).unsqueeze(0) / 255
    assert torch.equal(decode(out / row["file"], None, 3), (model.translate(image) * 255).round().byte()[0])
    assert row["file"].startswith(f"train/{row['class']}/")
    assert all((tmp_path / "again" / row["file"]).read_bytes() == (out / row["file"]).read_bytes() for row in rows)


def test_of_several_runs_one_is_drawn_for_each_image(uncut, photos, tmp_path):
    twin = tmp_path / "twin"
    twin.symlink_to(uncut)
    settings = (f"data.root={photos}", "data.test_size=40", "data.val_size=0", "augment=model")
    call("augment", augment, *settings, f"augment.run=[{uncut},{twin}]", f"out={tmp_path / 'out'}")
    with (tmp_path / "out" / "manifest.csv").open() as file:
        used = [str(twin) in row["transforms"] for row in csv.DictReader(file)]
    assert 5 < sum(used) < 27


def test_what_a_model_cannot_augment_is_one_line(uncut, photos, averaged_run, tmp_path):
    root, out = f"data.root={photos}", f"out={tmp_path / 'x'}"
    for more, words in (
        ([f"augment.run={averaged_run}"], "a Classifier makes no image of an image, nor of a class; cyclegan, "),
        ([f"augment.run={uncut}", "data.channels=1"], "makes images of 3 channels, the data have 1"),
        ([f"augment.run={tmp_path}"], "is not a run's folder"),
    ):
        with pytest.raises(UserError, match=words):
            call("augment", augment, root, out, "augment=model", *more)
    with pytest.raises(UserError, match="augment=model makes images by itself: flip can be done in training"):
        call("augment", augment, root, out, "augment=[flip,model]", f"augment.run={uncut}")
    with pytest.raises(UserError, match=r"augment\.run must be given"):
        call("augment", augment, root, out, "augment=model")
    with pytest.raises(UserError, match="augment=model makes images beforehand"):
        check(compose("train", ["model=lenet", "augment=model", f"augment.run={uncut}"]))
    with pytest.raises(UserError, match="holds a Classifier, which makes no image of an image"):
        call("translate", translate, f"run={averaged_run}", f"images={photos}", out)
    assert not (tmp_path / "x").exists()


def test_sample_draws_rows_of_test_images(uncut, tmp_path):
    call("sample", sample, f"run={uncut}", "n=3", "scale=1", f"out={tmp_path / 'rows.png'}")
    assert Image.open(tmp_path / "rows.png").size == (6 * 18 + 2, 3 * 18 + 2)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=mnist"], ["takes two domains of images", "data=mnist holds images"]),
        (["data=unpaired"], ["data.root_a must be given"]),
        (["data=unpaired", "data.root_a=x", "data.root_b=y"], ["x is no folder with images in it"]),
        (["data=winter", "data.root=x", "trainer.gradient_clip_val=1"], ["steps its two optimisers itself"]),
        (["data=winter", "data.root=x", "data.permute=true"], ["data.permute=true", "CycleGAN takes images as they are"]),
        (["data=winter", "data.root=x", "data.channels=1"], ["data.channels=1", "winter is in the colours"]),
        (["data=winter", "data.root=x", "model.pool=-1"], ["model.pool=-1", "a whole number from 0"]),
    ],
)
def test_what_is_wrong_is_one_line(overrides, words, tmp_path):
    with pytest.raises(UserError) as error:
        _read(compose("train", ["model=cyclegan", *overrides]))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def _read(cfg):
    check(cfg)
    build.data(cfg)


def test_images_are_no_domains_for_a_user_either(tmp_path):
    line = wrong(command("train", "model=dcgan", "data=winter", "data.root=x", f"out={tmp_path / 'runs'}"))
    assert "src.models.gan.GAN takes images, and data=winter holds two domains of images" in line
    assert not (tmp_path / "runs").exists()


def test_the_seed_of_a_step_is_the_batches(config, photos, tmp_path):
    """What the pools draw depends on where the run stands alone: `Exact` seeds each batch."""
    cfg = config(*RUN, f"data.root={photos}", "model.pool=4")
    states = []
    for name in ("one", "other"):
        torch.manual_seed(seed_of(name))
        train(cfg, saved(cfg, tmp_path / name))
        states.append(weights_of(tmp_path / name))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_it_learns_a_winter_that_it_never_saw_beside_its_summer(config, tmp_path):
    """Fields of smooth colours, 8 epochs: far nearer to the truth than the images left as they are, both ways."""
    noise = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(300):
            field = Image.fromarray(noise.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize(
                (16, 16), Image.Resampling.BICUBIC
            )
            field.save(tmp_path / "in" / name / f"{i}.png")
    cfg = config(*TINY, "model=cyclegan", "data=winter", f"data.root={tmp_path / 'in'}", "data.limit=null", "data.size=16",
                 "model.generator.width=8", "model.generator.blocks=1", "model.discriminator.width=16", "data.batch_size=4",
                 "model.optimizer.lr=1e-3", "trainer.max_epochs=8", "data.test_size=60", "data.val_size=0")  # fmt: skip
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["test/psnr_b"] > values["test/psnr_untranslated"] + 6
    assert values["test/psnr_a"] > values["test/psnr_untranslated"] + 3
    assert values["test/ssim_b"] > 0.5
