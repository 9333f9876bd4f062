"""The table of src.train --summary."""

import sys

import pytest
from torch import nn

from src.config import cli
from src.engine import build
from src.engine.summary import summary_lines
from src.nets.inspect import Layer, calls_with
from src.train import summarize
from tests.conftest import TINY, TINY_NETS


def lines_of(config, *overrides):
    cfg = config(*TINY, *overrides)
    data = build.datamodule(cfg)
    return summary_lines(build.model(cfg, data), data)


def test_table_has_each_layer_of_each_network(config):
    assert lines_of(config, *TINY_NETS) == [
        "generator",
        "  layer  kind    input  output  parameters  multiply-adds",
        "  0      Linear  96     16           1,552          1,536",
        "  2      Linear  16     784         13,328         12,544",
        "  total                             14,880         14,080",
        "",
        "discriminator",
        "  layer  kind    input  output  parameters  multiply-adds",
        "  1      Linear  784    16          12,560         12,544",
        "  3      Linear  16     1               17             16",
        "  total                             12,577         12,560",
        "",
        "GAN: 27,457 parameters",
    ]


def test_multiply_adds_of_draw_count_what_no_layer_does(config):
    tables = [lines_of(config, "model=draw", f"model.net.num_steps={n}") for n in (2, 4, 6)]
    two, four, six = (int(lines[-3].split()[-1].replace(",", "")) for lines in tables)
    assert six - four == four - two > 0, "each step costs the same"
    lines = tables[0]
    assert any(line.split()[:2] == ["cell.encoder", "LSTMCell"] for line in lines)


def test_layer_may_take_and_return_tuples():
    import torch

    net = nn.LSTM(3, 5)
    rows = calls_with(net, (torch.zeros(4, 2, 3),))
    assert rows == [Layer("", "LSTM", (2, 3), (2, 5), sum(p.numel() for p in net.parameters()), 0)]


def fails(*_):
    pytest.fail("it trained")


def test_summary_leaves_no_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "--summary", "model=fc", *TINY])
    assert cli.launch("train", fails, fails, "", summarize) == 0
    assert "Classifier: 6,442 parameters" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["train", "--summary", "-m", "model=fc,cnn"])
    assert cli.launch("train", fails, fails, "", summarize) == 2
    assert "--multirun and --summary exclude each other" in capsys.readouterr().err
