"""What is read back from disk runs no code, and whatever is in it ends in a clear error or in the same bits."""

import json
import os
import pickle
import random
import shutil
from pathlib import Path

import pytest
import torch

import xclimb
from training.tiny import toy
from transfer.disturbed import SETTINGS, TRAIN, VAL, interrupted, train
from xclimb.config import TransferConfig
from xclimb.errors import CheckpointError, ConfigError, XclimbError
from xclimb.models.chgnet import pretrained
from xclimb.runs.states import States, read_state, restore, state_of
from xclimb.training.engine import run_on_devices
from xclimb.training.trainer import Trainer
from xclimb.transfer.methods import get_method

METHOD = get_method("residual")
CONFIG = TransferConfig.build({name: value for name, value in SETTINGS.items() if name != "progress"})


@pytest.fixture(scope="module")
def trainer():
    start = METHOD.prepare(toy(), TRAIN, CONFIG.method, 0)
    made = run_on_devices(CONFIG, lambda engine: Trainer(CONFIG, start, TRAIN, VAL, engine, METHOD))
    made.close_epoch()
    for _ in made.steps():
        pass
    return made


@pytest.fixture(scope="module")
def saved(trainer, tmp_path_factory):
    tensors, card = state_of(trainer)
    return States(tmp_path_factory.mktemp("saved") / "states").write(
        tensors, {"step": card["step"], "trainer": card, "guard": {}, "threads": 1}
    )


@pytest.fixture
def place(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "states" / saved.name)


class Payload:
    def __reduce__(self):
        return os.mkdir, (os.environ["XCLIMB_PAYLOAD"],)


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """Bytes that make a folder when somebody unpickles them, and that folder."""
    monkeypatch.setenv("XCLIMB_PAYLOAD", str(tmp_path / "ran"))
    torch.save(Payload(), tmp_path / "bad.pt")
    return [pickle.dumps(Payload()), (tmp_path / "bad.pt").read_bytes()], tmp_path / "ran"


def test_a_payload_does_not_run(place, payload, tmp_path):
    contents, ran = payload
    potential = toy().save(tmp_path / "potential")
    for content in contents:
        for file in (place / "state.safetensors", place / "state.json"):
            before = file.read_bytes()
            file.write_bytes(content)
            with pytest.raises(CheckpointError, match="damaged"):
                read_state(place)
            file.write_bytes(before)
        for file in (potential / "weights.safetensors", potential / "potential.json"):
            before = file.read_bytes()
            file.write_bytes(content)
            with pytest.raises(XclimbError):
                xclimb.load(potential)
            file.write_bytes(before)
    config = tmp_path / "config.yaml"
    config.write_text(f"epochs: !!python/object/apply:os.mkdir ['{ran}']\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        TransferConfig.load(config)
    assert not ran.exists()
    pickle.loads(contents[0])
    assert ran.exists()  # the payload is a real one


def test_weights_of_chgnet_run_no_code(payload, tmp_path, monkeypatch):
    contents, ran = payload
    for content in contents:
        (tmp_path / "chgnet.pth.tar").write_bytes(content)
        monkeypatch.setattr(pretrained, "weights_file", lambda name: tmp_path / "chgnet.pth.tar")
        with pytest.raises(CheckpointError, match="holds no weights that are safe to read") as error:
            pretrained._read.__wrapped__("chgnet-0.3.0")  # not the ones that are known already
        assert "\n" not in str(error.value)
    assert not ran.exists()


def test_no_code_of_ours_reads_pickle():
    for file in Path(xclimb.__file__).parent.rglob("*.py"):
        text = file.read_text()
        assert "import pickle" not in text
        assert text.count("torch.load(") == text.count("weights_only=True"), file


def test_restoring_gives_the_same_bits(trainer, saved):
    tensors, card = read_state(saved)
    other = Trainer(CONFIG, trainer.start, TRAIN, VAL, trainer.engine, METHOD)
    restore(other, tensors, card["trainer"])
    again, card_again = state_of(other)
    assert json.dumps(card_again) == json.dumps(card["trainer"])
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name].cpu(), value) for name, value in tensors.items())


def test_a_state_of_another_run_is_told(trainer, saved):
    tensors, card = read_state(saved)
    config = TransferConfig(method="trainable", optimizer="adamw", ema_decay=0.5)
    other = Trainer(config, trainer.start, TRAIN, VAL, trainer.engine, get_method("trainable"))
    with pytest.raises(CheckpointError, match="not one of this run"):
        restore(other, tensors, card["trainer"])


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A byte turned, a piece cut out, doubled, or filled with something else."""
    content, place = bytearray(content), chance.randrange(len(content))
    kind, length = chance.randrange(5), chance.randrange(1, 40)
    if kind == 0:
        content[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del content[place : place + length]
    elif kind == 2:
        content[place:place] = content[place : place + length]
    elif kind == 3:
        content[place : place + length] = bytes(chance.randrange(256) for _ in range(length))
    else:
        del content[place:]
    return bytes(content)


def sound_or_told(read):
    """Whether a reader gave something; any exception but our own is a failure, and so is a message of many lines."""
    told = None
    try:
        read()
    except XclimbError as error:
        told = str(error)
    if told is not None:
        assert "\n" not in told
        assert len(told) > 20
    return told is None


def test_500_mutations_of_states_potentials_and_settings(saved, tmp_path):
    chance = random.Random(0)
    place = tmp_path / "step-000000003"
    place.mkdir()
    small = {
        "tensors": {"a": torch.arange(6.0), "b": torch.zeros(2, 3)},
        "card": json.loads((saved / "state.json").read_text()),
    }
    States(tmp_path).write(small["tensors"], small["card"]["state"] | {"step": 3})
    potential = toy().save(tmp_path / "potential")
    config = tmp_path / "config.yaml"
    config.write_text(TransferConfig().to_yaml())
    files = {
        place / "state.json": (125, lambda: read_state(place)),
        place / "state.safetensors": (100, lambda: read_state(place)),
        potential / "potential.json": (150, lambda: xclimb.load(potential)),
        potential / "weights.safetensors": (25, lambda: xclimb.load(potential)),
        config: (100, lambda: TransferConfig.load(config)),
    }
    assert sum(count for count, _ in files.values()) == 500
    for file, (count, read) in files.items():
        before = file.read_bytes()
        assert sound_or_told(read)
        told = 0
        for _ in range(count):
            file.write_bytes(mutated(before, chance))
            told += not sound_or_told(read)
        file.write_bytes(before)
        assert told > count / 3, file  # a comment, a space or a digit may change without harm


def test_a_run_folder_full_of_junk_is_told(tmp_path):
    assert interrupted(tmp_path / "run", 2) == 0
    for name in ("run.json", "config.yaml"):
        file = tmp_path / "run" / name
        before = file.read_bytes()
        for junk in (b"", b"[1, 2]", b"\x80\x04\x95", b"{" * 5000, before[: len(before) // 2]):
            file.write_bytes(junk)
            with pytest.raises(XclimbError) as error:
                train(tmp_path / "run", resume=True)
            assert "\n" not in str(error.value)
        file.write_bytes(before)
