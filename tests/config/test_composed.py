"""A data set's recommendations reach the Trainer and the callbacks, unless set elsewhere."""

import pytest

from src.config.compose import compose, groups

# epochs that a data set recommends; 20 without a recommendation
EPOCHS = {"binarized_mnist": 5, "digits": 50, "fashion_mnist": 10, "mnist": 5, "permuted_mnist": 5,
          "pets": 30, "reviews": 100, "style_pair": 1, "svhn": 10, "two_digit_mnist": 10,
          "unpaired": 200, "winter": 2}  # fmt: skip


@pytest.mark.parametrize("data", groups()["data"])
@pytest.mark.parametrize("model", ["vgg", "draw"])
def test_data_set_recommends_training_length(data, model):
    cfg = compose("train", [f"data={data}", f"model={model}"])
    assert cfg.trainer.max_epochs == EPOCHS.get(data, 20)
    every_batch = data == "style_pair"
    assert cfg.trainer.log_every_n_steps == (1 if every_batch else 50)
    assert cfg.callbacks.samples.every_n_batches == (1 if every_batch else 100)


@pytest.mark.parametrize(
    ("overrides", "max_epochs", "log_every_n_steps"),
    [
        (["data=mnist", "trainer.max_epochs=7"], 7, 50),
        (["data=mnist", "trainer=debug"], 1, 1),
        (["experiment=gan_mnist"], 10, 50),
        (["experiment=transfer_scratch"], 60, 4),
    ],
)
def test_other_settings_override_recommendations(overrides, max_epochs, log_every_n_steps):
    trainer = compose("train", overrides).trainer
    assert (trainer.max_epochs, trainer.log_every_n_steps) == (max_epochs, log_every_n_steps)


def test_augment_has_no_settings_of_training():
    assert "recommended" not in compose("augment", ["data=mnist", "out=OUT"])
