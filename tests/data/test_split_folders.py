"""Which sub-folders are sets and which are classes, and the errors if that is ambiguous."""

import pytest
from PIL import Image

from src.core.errors import UserError
from tests.conftest import command, data_of, wrong


def write(root, *folders, n=6):
    """Write `n` images into each of `folders`, in different colors."""
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (8, 8), (40 * k, 20 * i, 90)).save(root / folder / f"{i}.png")


def read(config, root, *more):
    return data_of(config, "model=fc", "data=folder", f"data.root={root}", "data.size=8", *more)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", None, "Testing"),
        ("Train", "Valid", "Test"),
        ("TRAIN", "Validation", "TEST"),
        ("training_set", "dev", "test_set"),
        ("train2017", "val2017", "test2017"),
        ("seg_train", "seg_val", "seg_test"),
        ("Train Images", "Val Images", "Test Images"),
    ],
)
def test_split_folders_are_found_by_common_names(config, tmp_path, train, val, test):
    sets = [name for name in (train, val, test) if name]
    write(tmp_path, *(f"{name}/{kind}" for name in sets for kind in ("cats", "dogs")))
    data = read(config, tmp_path, "data.val_size=2")
    assert data.class_names == ["cats", "dogs"]
    sizes = [len(part) for part in (data.train, data.val, data.test)]
    assert sizes == [12 if val else 10, 12 if val else 2, 12]


def line(config, root, *more):
    with pytest.raises(UserError) as error:
        read(config, root, *more)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_two_folders_for_one_set_are_an_error(config, tmp_path):
    write(tmp_path, "Train/cats", "training/cats", "test/cats")
    message = line(config, tmp_path)
    assert "holds both Train and training, which both mean the train set" in message
    assert "if they are classes, list all classes: data.classes=[Train,test,training]" in message


def test_a_path_through_the_folder_itself_is_read(config, tmp_path):
    write(tmp_path / "in", "cats", "dogs")
    for path in ("in/cats/..", "in/cats/../../in"):
        assert read(config, tmp_path / path).class_names == ["cats", "dogs"]


def test_split_folder_next_to_classes_needs_data_classes(config, tmp_path):
    write(tmp_path, "cats", "dogs", "test")
    message = line(config, tmp_path)
    assert "holds test, named like a set, next to cats, dogs" in message
    assert "data.classes=[cats,dogs] says which folders are classes" in message
    assert read(config, tmp_path, "data.classes=[cats,dogs]").class_names == ["cats", "dogs"]
    assert read(config, tmp_path, "data.classes=[cats,test]").class_names == ["cats", "test"]


def test_train_folder_next_to_class_folders_is_an_error(config, tmp_path):
    write(tmp_path, "train/cats", "train/dogs", "birds")
    assert "holds train, named like a set, next to birds" in line(config, tmp_path)


def test_other_folders_next_to_two_sets_are_left_out(config, tmp_path, caplog):
    caplog.set_level("INFO", logger="src")
    write(tmp_path, *(f"{level}/{kind}" for level in ("Train", "Test") for kind in "ab"), "Meta")
    (tmp_path / "Train.csv").write_text("")
    assert read(config, tmp_path).class_names == ["a", "b"]
    assert "left out 7 files: 6 outside the folders of the classes, 1 of other kinds" in caplog.text


def test_unlabeled_test_folder_is_left_out_and_a_test_set_is_cut(config, tmp_path, caplog):
    caplog.set_level("INFO", logger="src")
    write(tmp_path, "train/cats", "train/dogs", "test", n=10)
    data = read(config, tmp_path, "data.val_size=0")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert "left out 10 files: 10 outside the folders of the classes" in caplog.text


def test_split_folders_without_classes_are_an_error(config, tmp_path):
    write(tmp_path, "Training", "Testing")
    assert "Training holds no class folders" in line(config, tmp_path)


def test_test_folder_alone_is_an_error(config, tmp_path):
    write(tmp_path, "Testing/cats", "Testing/dogs")
    assert "holds Testing and no train" in line(config, tmp_path)


@pytest.mark.parametrize("inner", ["my_pictures", "a/b"])
def test_nested_class_folders_are_named_in_the_error(config, tmp_path, inner):
    write(tmp_path, f"{inner}/red", f"{inner}/blue")
    first = inner.split("/")[0]
    message = line(config, tmp_path)
    assert f"data.root={tmp_path} holds one folder, {first}, with 2 class folders" in message
    assert f"use data.root={tmp_path / inner}" in message
    if inner == "my_pictures":
        data = read(config, tmp_path, "model=gan", "data.classes=[my_pictures]")
        assert data.num_classes == 1


def test_nested_split_folders_are_named_in_the_error(config, tmp_path):
    write(tmp_path, "archive/Train/red", "archive/Train/blue", "archive/Test/red")
    message = line(config, tmp_path)
    assert f"one folder, archive, with Test, Train: use data.root={tmp_path / 'archive'}" in message


def test_split_folder_inside_itself_is_found(config, tmp_path):
    write(tmp_path, *(f"{a}/{a}/{b}" for a in ("seg_train", "seg_test") for b in ("sea", "street")))
    write(tmp_path, "seg_pred/seg_pred")
    data = read(config, tmp_path, "data.val_size=0")
    assert data.class_names == ["sea", "street"]
    assert (len(data.train), len(data.test)) == (12, 12)


def test_class_named_like_a_set_can_be_given(config, tmp_path):
    write(tmp_path, "valid", "invalid")
    assert "data.classes=[invalid,valid] says which folders are classes" in line(config, tmp_path)
    given = read(config, tmp_path, "data.classes=[invalid,valid]")
    assert given.class_names == ["invalid", "valid"]


def test_single_class_with_sub_folders_is_one_class(config, tmp_path):
    write(tmp_path, "faces", "faces/2019", "faces/2020")
    assert read(config, tmp_path, "model=gan", "data.test_size=2").class_names == ["faces"]


def test_sets_may_link_to_a_folder_of_all_images(config, tmp_path, caplog):
    """A file to which two sets link is in one of them."""
    caplog.set_level("INFO", logger="src")
    write(tmp_path, "images", n=9)
    places = {0: "train/cat", 1: "train/cat", 2: "train/dog", 3: "train/dog", 4: "test/cat",
              5: "test/cat", 6: "test/dog"}  # fmt: skip
    for i, place in [*places.items(), (0, "test/dog")]:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / f"{i}.png").symlink_to(tmp_path / "images" / f"{i}.png")
    data = read(config, tmp_path, "data.val_size=0")
    assert data.train.images[:, 1, 0, 0].tolist() == [20, 40, 60]
    assert data.test.images[:, 1, 0, 0].tolist() == [80, 100, 0, 120]
    assert "1 links to images that are used already" in caplog.text
    assert "2 outside the folders of the classes" in caplog.text


def test_class_missing_in_test_is_logged_and_in_training_an_error(config, tmp_path, caplog):
    caplog.set_level("INFO", logger="src")
    write(tmp_path, "train/cats", "train/dogs", "test/cats")
    assert len(read(config, tmp_path, "data.val_size=0").test) == 6
    assert "folder: classes without images in test: dogs" in caplog.text
    for path in (tmp_path / "train" / "dogs").iterdir():
        path.rename(path.with_suffix(".mov"))
    assert "dogs: a class with no images (6 of other kinds (.mov))" in line(config, tmp_path)


@pytest.mark.slow
def test_training_on_a_kaggle_folder(tmp_path):
    write(tmp_path / "in", *(f"{a}/{b}" for a in ("Training", "Testing") for b in ("red", "blue")))
    result = command(
        "train", "model=fc", "data=folder", f"data.root={tmp_path / 'in'}", "data.size=8",
        "trainer=cpu", "trainer.max_epochs=1", "callbacks=none", "logger=csv",
        f"cache={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "(11 to train, 1 to validate, 12 to test)" in result.stderr


@pytest.mark.slow
def test_nested_folder_gets_a_one_line_error(tmp_path):
    write(tmp_path, "in/my_pictures/red", "in/my_pictures/blue")
    args = ("model=fc", "data=folder", f"data.root={tmp_path / 'in'}", f"out={tmp_path / 'runs'}")
    result = command("train", *args, f"cache={tmp_path / 'cache'}")
    assert f"use data.root={tmp_path / 'in' / 'my_pictures'}" in wrong(result)
