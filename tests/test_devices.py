"""A device that this machine lacks is a sentence, wherever a codec is put there."""

from pathlib import Path

import pytest
import torch

import streamcodec
from streamcodec.cli import main
from streamcodec.devices import usable_device
from streamcodec.errors import ConfigError, InputError

LACKING = ["gpu", "", "cuda:99", "meta", "tpu:0"] + ([] if torch.cuda.is_available() else ["cuda"])


@pytest.mark.parametrize("device", LACKING)
def test_a_device_that_is_not_here_is_explained(device, tmp_path):
    with pytest.raises(InputError, match=rf"device '{device}' .*; use cpu"):
        usable_device(device)
    with pytest.raises(InputError, match=rf"device '{device}' "):  # before the codec is looked for, which can take long
        streamcodec.load(tmp_path / "nowhere", device=device)


def test_a_device_that_is_here_is_given_back():
    assert usable_device("cpu") == usable_device(torch.device("cpu")) == torch.device("cpu")


def test_training_names_its_own_option():
    from streamcodec.train.distributed import joined

    with pytest.raises(ConfigError, match=r"run\.device: device 'gpu' cannot be used here"), joined("gpu"):
        pass


@pytest.mark.parametrize("command", [["roundtrip"], ["encode", "in.wav", "out.ecdc"], ["serve", "--port", "0"]])
def test_the_commands_say_so(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.wav").touch()
    if command[0] == "serve":
        pytest.importorskip("websockets", reason="the extra `server` is not installed")
        pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
    assert main([*command, "--device", "gpu"]) == 2
    assert "device 'gpu' cannot be used here" in capsys.readouterr().err
