"""Every config composes and passes its checks; a mistake is one line, before torch is imported."""

from pathlib import Path

import pytest

from src.config.checks import check
from src.config.cli import quoted
from src.config.compose import compose, groups
from src.core.errors import UserError
from tests.config.choices import CHOICES, COMMANDS, chosen, command_for, with_paths
from tests.conftest import child_seconds, command, wrong


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=[f"{g}={c}" for g, c in CHOICES])
def test_every_choice_composes_and_passes_its_checks(group, choice):
    name = command_for(group, choice)
    check(compose(name, list(chosen(group, choice))), name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_config_that_composes(name):
    check(compose(name, list(with_paths(name, ()))), name)


UNFREEZE = ("model=vgg", "model.init_from=x", "model.transfer.freeze=2",
            "model.transfer.unfreeze_epoch=5")  # fmt: skip

MISTAKES = [
    # overrides, words of the error message
    (["modle=gan"], ["modle", "did you mean model?"]),
    (["model=dcgan", "model/optimizer=lbfgs"], ["lbfgs", "with its 2 optimizers", "such as adam"]),
    (["model=draw", "data=binarized_mnist", "data.crop=0.9"], ["data.crop=0.9", "not be binary"]),
    (["model=dcgn"], ["model=dcgn", "dcgan, densenet121, ", "did you mean dcgan?"]),
    (["model/loss=lsgn"], ["model/loss=lsgn", "bce, hinge", "did you mean lsgan?"]),
    (["model/net/attention=window"],
     ["model/net/attention=window", "has a model/net/attention group"]),
    (["model/los=lsgan"], ["model/los", "did you mean model/loss?"]),
    (["experiment=dcgan_mnits"],
     ["experiment=dcgan_mnits: no such choice; did you mean dcgan_mnist? ",
      "Allowed are cifar10_fast, cifar10_faster, "]),
    (["model.optimizer.lrr=1"], ["model.optimizer.lrr", "did you mean model.optimizer.lr?"]),
    (["+model.foo=1"], ["unknown setting model.foo"]),
    (["model.foo=1"], ["unknown setting model.foo"]),
    (["model.optimizer.dampening=1"],
     ["model.optimizer.dampening: torch.optim.Adam has no", "its parameters are lr, betas"]),
    (["model.optimizer.maximize=3"], ["model.optimizer.maximize=3", "true or false"]),
    (["model.optimizer.params=3"], ["model.optimizer.params cannot be set"]),
    (["trainer.logger=true"], ["trainer.logger cannot be set"]),
    (["trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean trainer.max_epochs?"]),
    (["trainer.max_steps=3"], ["trainer.max_steps=3", "(set trainer.max_epochs or trainer"]),
    (["trainer.val_check_interval=0.5"], ["(set trainer.check_val_every_n_epoch)"]),
    (["trainer.overfit_batches=2"], ["(set data.train_size to learn a few images)"]),
    (["model=resnet18", "model.net.width_per_grup=3"], ["did you mean model.net.width_per_group?"]),
    (["model=timm", "model.net.model_name=resnet19"],
     ["model.net.model_name=resnet19", "a network of timm", "did you mean resnet18?"]),
    (["model=timm", "model.net.model_name=resnet18.a1_in2k"], ["did you mean resnet18.a1_in1k?"]),
    (["model=efficientnet_lite0", "data.crop=1.5"], ["data.crop=1.5", "a number in (0, 1]"]),
    (["data.interpolation=cubic"], ["data.interpolation=cubic", "bilinear, bicubic"]),
    (["model.optimizer.lr=abc"], ["model.optimizer.lr=abc", "a number above 0"]),
    (["model.optimizer.lr=-1"], ["model.optimizer.lr=-1", "a number above 0"]),
    (["data.batch_size=1.5"], ["data.batch_size=1.5", "a whole number of at least 1"]),
    (["data.batch_size=true"], ["data.batch_size", "a whole number of at least 1"]),
    (["model.ema=1"], ["model.ema=1", "in [0, 1)"]),
    (["model.optimizer.betas=[0.5]"], ["model.optimizer.betas", "a list of 2"]),
    (["data.limit=0"], ["data.limit=0", "a whole number of at least 1, or null"]),
    (["trainer.precision=17"], ["trainer.precision=17", "bf16-mixed"]),
    (["data.channels=2"], ["data.channels=2", "one of 1, 3"]),
    (["model.net.generator.hidden_dims=[1"], ["cannot read"]),
    (["data=folder"], ["data.root must be given"]),
    (["callbacks.samples.every_n_batches=null"],
     ["every_n_batches=null", "a whole number of at least 1"]),
    (["callbacks.samples.n=null"], ["callbacks.samples.n=null", "a whole number of at least 1"]),
    (["trainer.precision=bf16-true"],
     ["trainer.precision=bf16-true", "auto, 32-true, bf16-mixed, 16-mixed"]),
    (["data=pets", "data.classes=bread"],
     ["data.classes=bread", "breeds, species", "a non-empty list"]),
    (["data=pets", "data.classes=[]"], ["data.classes=[]", "a non-empty list"]),
    (["model=vgg", "model.transfer.freeze=head"],
     ["model.transfer.freeze=head", "none, backbone", "a whole number of at least 1"]),
    (["model=vgg", "model.transfer.backbone_lr=0"],
     ["model.transfer.backbone_lr=0", "a number above 0"]),
    (["data.cache=5"], ["data.cache=5", "text, or null"]),
    (["trainer.limit_train_batches=0"], ["a whole number of at least 1, or a number in (0, 1]"]),
    (["trainer.limit_test_batches=0.0"], ["a whole number of at least 1, or a number in (0, 1]"]),
    (["model/schedule=plateau", "model.schedule.factor=2"],
     ["model.schedule.factor=2", "a number in (0, 1)"]),
    (["augment=salt_and_pepper", "augment.salt_and_pepper.max_fraction=5"],
     ["augment.salt_and_pepper.max_fraction=5", "a number in (0, 1]"]),
    # settings that do not fit together
    (["data.size=30"], ["data.size=30", "28, 32, 64", "model/net=fc takes any"]),
    (["data=cifar10", "model.net.discriminator.channels=1"],
     ["channels=1", "cifar10", "data.channels=3"]),
    (["data.train_size=9", "data.train_per_class=9"],
     ["data.train_size", "data.train_per_class", "one of them"]),
    (
        ["model=vgg", "model.init_from=pretrained"],
        ["init_from=pretrained", "no published weights for src.nets.convnet.convnet"],
    ),
    (["model=vgg", "model.tta.shift=32", "data=cifar10"], ["model.tta.shift=32", "data.size=32"]),
    (
        ["model=vgg", "model.init_from=x", "model.normalize.whiten=true"],
        ["model.normalize.whiten=true", "model.init_from=x"],
    ),
    (["model=vgg", "model.transfer.freeze=backbone"],
     ["model.transfer.freeze=backbone without model.init_from"]),
    (["model=vgg", "model.transfer.unfreeze_epoch=1"],
     ["model.transfer.unfreeze_epoch=1", "model.transfer.freeze=none"]),
    (
        [*UNFREEZE, "trainer.max_epochs=5"],
        ["model.transfer.unfreeze_epoch=5 is never reached: trainer.max_epochs=5"],
    ),
    (
        [*UNFREEZE, "trainer.devices=2"],
        ["model.transfer.unfreeze_epoch=5", "trainer.devices=1"],
    ),
    (["trainer.gradient_clip_val=1"],
     ["trainer.gradient_clip_val=1", "uses manual optimization"]),
    (["trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches=2"]),
    (["data=binarized_mnist", "data.size=32"], ["BinarizedMnist", "28"]),
    (
        ["data=two_digit_mnist", "data.channels=3"],
        ["TwoDigitMnist does not support data.channels=3: the images are gray (allowed: 1)"],
    ),
    (["model=dcgan", "data.size=[28,32]"], ["data.size=[28, 32]", "28, 32, 64"]),
    (["model=draw", "data.size=[28,32,3]"], ["data.size=[28, 32, 3]", "a list of 2"]),
    (["model=draw", "model.net.attention.read_size=0"],
     ["model.net.attention.read_size=0", "a whole number of at least 1"]),
    (["model=draw", "model/net/attention=nothing"],
     ["model/net/attention=nothing", "none, window"]),
    (["model=draw_noattention", "model.net.attention.read_size=2"],
     ["model.net.attention.read_size"]),
    (["model=sentiment"],
     ["a Sentiment takes sentences (data=reviews)", "data=digits holds images"]),
    (["data=reviews"], ["a GAN takes images (data=", "data=reviews holds sentences"]),
    (["model=word_vectors", "data=reviews", "augment=warp"], ["augment=rotation", "sentences"]),
    (["model=word_vectors", "data=reviews", "model.window=0"],
     ["model.window=0", "a whole number of at least 1"]),
    (["model=sentiment", "data=reviews", "data.left_out=-1"],
     ["data.left_out=-1", "a whole number of at least 0, or null"]),
    # targets that are not allowed
    (["model._target_=torch.load"], ["torch.load is not allowed"]),
    (["model.optimizer._target_=torch.optim.adam.torch.load"], ["is not allowed"]),
    (["model.optimizer._target_=builtins.exec"], ["builtins.exec is not allowed"]),
    (["model.net.generator._target_=os.system"], ["os.system is not allowed"]),
    (["model.net.generator._target_=src.models.gan.torch.load"], ["is not allowed"]),
    (["model.net.generator._target_=src.core.new_runs.discard"], ["is not allowed"]),
    (["model.net.generator._target_=src.nets.fc.nothing"], ["is not allowed"]),
    (["+callbacks.x._target_=shutil.copy"], ["shutil.copy is not allowed"]),
    (["model._target_=5"], ["model._target_=5 is not allowed"]),
    # exceptions of Hydra and OmegaConf
    (["experiment=[0]"], ["experiment=[0]: must be one of", "gan_mnist"]),
    (["augment=[0]"], ["augment=[0]: must be one of", "standard"]),
    (["trainer=[null]"], ["trainer=[null]: must be one of auto, cpu"]),
    (["model=[[]]"], ["model=[[]]: must be one of", "dcgan"]),
    (["data.limit=3", "model=-inf"], ["model=-inf: must be one of"]),
    (["logger=-0.0"], ["logger=-0.0: must be one of csv, default, mlflow, wandb"]),
    (["data.size=float(x)"], ["cannot read data.size=float(x): an"]),
    (["seed=${nope}"], ["seed", "'nope' not found"]),
    (["model=gan,lsgan"],
     ["model=gan,lsgan gives several values", "add -m: python -m src.train -m model=gan,lsgan"]),
    # unknown keys
    (["model.lr=1e-3"], ["model.lr", "did you mean model.optimizer.lr?"]),
    (["+title=baseline"], ["unknown key 'title'"]),
    (["+x.seed=1"], ["unknown key 'x'"]),
    (["+checkpoint.seed=1"], ["unknown key 'checkpoint.seed'"]),
    (["+data@y=mnist"], ["unknown key 'y'"]),
    (["+data.n=1"], ["unknown setting data.n: src.data.sets.digits.Digits has no such parameter"]),
    (["+augment.seed=1"],
     ["augment.seed=1: must be a mapping with `_target_` (transforms of src.data"]),
    (["+model.optimizer.nesterov=true"],
     ["unknown setting model.optimizer.nesterov", "torch.optim.Adam"]),
    # missing keys
    (["~data.root"], ["data.root is missing", "src.data.sets.digits.Digits needs it"]),
    (["~trainer.precision"], ["trainer.precision is missing"]),
    (["~checkpoint"], ["checkpoint is missing"]),
    (["~model.schedule"], ["model.schedule is missing"]),
    (["~logger.csv._target_"],
     ["logger.csv._target_ is missing", "loggers of src.callbacks or pytorch_lightning.loggers"]),
    # targets and values of the wrong kind
    (["model.schedule._target_=src.models.gan.GAN"],
     ["must name a schedule of src.optim.schedules"]),
    (["model.schedule._target_=src.optim.schedules.unwrap_partial"],
     ["is not allowed: must name a schedule"]),
    (["model.schedule._target_=src.optim.schedules.Plateau"],
     ["model.schedule._partial_=true", "must be false for"]),
    (["model.optimizer._partial_=false"], ["model.optimizer._partial_=false", "must be true for"]),
    (["model.optimizer._target_=torch.optim.Nothing"],
     ["torch.optim.Nothing is not allowed", "an optimizer"]),
    (["model.net._target_=src.nets.fc.generator"], ["must name src.nets.gan.Networks"]),
    (["model.net.generator._target_=src.nets.fc.discriminator"],
     ["unknown setting model.net.generator.latent_dim"]),
    (["model.loss._target_=src.nets.fc.generator"],
     ["must name a class that derives from src.losses.GANLoss"]),
    (["model.loss._target_=src.losses.GANLoss"],
     ["must name a class that derives from src.losses.GANLoss"]),
    (["callbacks.samples._target_=src.callbacks.protocols.CanSample"],
     ["is not allowed: must name callbacks"]),
    (["data._target_=src.data.sets.files.FileSet"], ["is not allowed: must name a data set"]),
    (["+callbacks.x=3"], ["callbacks.x=3: must be a mapping with `_target_` (callbacks"]),
    (["checkpoint.every_n_batches=${model}"],
     ["checkpoint.every_n_batches={...}: must be a single value"]),
    (["model.ema=${model.net}"], ["model.ema={...}: must be a single value"]),
    # values that are not numbers, or too large
    (["model.optimizer.lr=inf"], ["model.optimizer.lr=inf", "a number above 0"]),
    (["model.optimizer.lr=nan"], ["model.optimizer.lr=nan", "a number above 0"]),
    (["model.optimizer.lr='1e-3'"], ["model.optimizer.lr=1e-3", "in quotes is text"]),
    (["data.batch_size=999999999999999999999999"],
     ["data.batch_size", "a whole number of at least 1"]),
    (["trainer.max_time=abc"], ["trainer.max_time=abc", "DD:HH:MM:SS"]),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "words"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_mistakes_get_one_line_with_what_is_allowed(overrides, words):
    with pytest.raises(UserError) as error:
        check(compose("train", overrides))
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "sweep",
    [["model=gan,dcgn"], ["model.optimizer.lr=1e-3,-1"], ["model=dcgan,gan", "data.size=28,30"]],
)
def test_all_jobs_of_a_sweep_are_checked_before_the_first_starts(tmp_path, sweep):
    wrong(command("train", "-m", *sweep, f"out={tmp_path / 'runs'}"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_error_raised_by_a_class_is_one_line(tmp_path):
    overrides = (
        "++model.optimizer.amsgrad=true",
        "model.optimizer.betas=[0.5,0.5]",
        "model.optimizer._target_=torch.optim.SparseAdam",
    )
    line = wrong_last(command("train", *overrides, f"out={tmp_path / 'runs'}"))
    assert "model.optimizer" in line
    assert not (tmp_path / "runs").exists()


def wrong_last(result):
    """Return the error line, which is the last on stderr."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_help_names_groups_choices_and_examples():
    before = child_seconds()
    result = command("train", "--help")
    assert child_seconds() - before < 3
    assert result.returncode == 0
    for group, choices in groups().items():
        line = next(
            line for line in result.stdout.splitlines() if line.strip().startswith(f"{group}=")
        )
        assert all(choice in line for choice in choices)
    assert "python -m src.train model=dcgan data=mnist" in result.stdout
    assert "_base" not in result.stdout


@pytest.mark.parametrize("precision", ["auto", "32-true"])
def test_numbers_in_scientific_notation_are_numbers(precision):
    cfg = compose("train", ["model.optimizer.lr=2e-4", f"trainer.precision={precision}"])
    check(cfg)
    assert cfg.model.optimizer.lr == 2e-4


@pytest.mark.parametrize(
    "path",
    [
        "a (1).png",
        "it's [2].png",
        "~/x",
        "größe.png",
        "a=b&c.png",
        "C:\\[x]\\",
        r"a[\'b",
        "*.{jpg,png}",
        "plain/*.png",
    ],
)
def test_a_path_may_contain_what_hydra_cannot_parse(path):
    given = compose("predict", ["run=x", quoted(f"images={path}")]).images
    assert given == str(Path(path).expanduser())


def test_overrides_that_hydra_can_parse_are_unchanged():
    for override in (
        "images=[a.png,b.png]",
        "images='a (1).png'",
        "picture=null",
        "top=5",
        "nothing",
    ):
        assert quoted(override) == override
