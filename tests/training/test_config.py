import pytest

from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.settings import near_miss, parse_overrides
from xclimb.transfer.methods import METHODS


@pytest.mark.parametrize("method", ["refit", "residual"])
def test_defaults_are_the_recipe_of_the_paper(method):
    config = TransferConfig(method=method)
    loss = config.loss
    assert (loss.energy, loss.force, loss.stress, loss.magmom, loss.huber_delta) == (3.0, 1.0, 0.1, 1.0, 0.1)
    assert (config.optimizer, config.learning_rate, config.schedule, config.final_lr_fraction) == ("adam", 1e-3, "cosine", 0.01)
    assert (config.source, config.epochs, config.gradient_clip, config.ema_decay) == ("chgnet-0.3.0", 50, None, None)


def test_a_recipe_is_a_default_that_any_setting_replaces(tmp_path):
    recipe = METHODS["l2sp"].recipe
    config = TransferConfig()
    assert (config.method.name, config.ema_decay, config.loss.force) == ("l2sp", recipe["ema_decay"], recipe["loss"]["force"])
    assert config.loss.huber_delta == 0.1
    given = TransferConfig.build({"loss.force": 7, "ema_decay": None})
    assert (given.loss.force, given.loss.energy, given.ema_decay) == (7.0, recipe["loss"]["energy"], None)
    (tmp_path / "config.yaml").write_text(given.to_yaml())
    assert TransferConfig.load(tmp_path / "config.yaml") == given
    assert TransferConfig(optimizer="schedulefree", schedule="constant").ema_decay is None


def test_dump_reads_back_equal(tmp_path):
    for config in (
        TransferConfig(),
        TransferConfig.build({"schedule": "constant", "optimizer": "adamw", "weight_decay": 1e-2, "learning_rate": 1e-5}),
        TransferConfig.build(
            {"loss.energy": 2, "device": "cuda:1", "gradient_clip": 1, "method": "trainable", "method.references_lr": 0.1}
        ),
    ):
        path = tmp_path / "config.yaml"
        path.write_text(config.to_yaml())
        assert TransferConfig.load(path) == config


def test_file_and_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("learning_rate: 1e-4\nloss:\n  energy: 5\nloss.force: 2\n")
    config = TransferConfig.load(path, ["loss.stress=.5", "epochs=7", "method=frozen"])
    assert (config.learning_rate, config.epochs, config.method.name) == (1e-4, 7, "frozen")
    assert (config.loss.energy, config.loss.force, config.loss.stress, config.loss.magmom) == (5.0, 2.0, 0.5, 1.0)


def test_overrides_are_yaml():
    assert parse_overrides(["a.b=1e-3", "a.c=2", "d=cuda:0", "e=null", "f=1.0"]) == {
        "a": {"b": 1e-3, "c": 2},
        "d": "cuda:0",
        "e": None,
        "f": 1.0,
    }


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"learing_rate": 1e-3}, "unknown setting 'learing_rate': did you mean 'learning_rate'?"),
        ({"loss": {"enrgy": 1.0}}, "did you mean 'loss.energy'?"),
        ({"energy": 2.0}, "did you mean 'loss.energy'?"),
        ({"qqqq": 2.0}, "known are source, method"),
        ({"epochs": "many"}, "setting 'epochs' must be a valid integer, got 'many'"),
        ({"epochs": True}, "must be a valid integer, got True"),
        ({"epochs": 2.5}, "must be a valid integer, got 2.5"),
        ({"epochs": -1}, "must be greater than or equal to 0"),
        ({"learning_rate": "fast"}, "'learning_rate' must be a valid number"),
        ({"learning_rate": float("nan")}, "must be a finite number"),
        ({"learning_rate": 0.0}, "must be greater than 0"),
        ({"loss": 3}, "setting 'loss' must be"),
        ({"schedule": "linear"}, "'cosine', 'plateau' or 'constant'"),
        ({"device": "gpu"}, "must be cpu, cuda, cuda:<n> or mps"),
        ({"dtype": "float16"}, "'float32' or 'float64'"),
        ({"weight_decay": 0.1}, "weight_decay has no effect with optimizer 'adam'"),
        ({"schedule": "constant", "final_lr_fraction": 0.5}, "final_lr_fraction has no effect"),
        (
            {"plateau_factor": 0.1},
            "plateau_factor has no effect with schedule 'cosine': leave it out, or use schedule 'plateau'",
        ),
        ({"plateau_patience": 2, "schedule": "constant"}, "plateau_patience has no effect with schedule 'constant'"),
        ({"optimizer": "schedulefree"}, "add schedule='constant'"),
        ({"optimizer": "schedulefree", "schedule": "constant", "ema_decay": 0.9}, "ema_decay has no effect"),
        ({"validation": {"folds": 3, "fraction": 0.2}}, "validation.fraction has no effect with validation.folds '3'"),
        ({"warmup_epochs": 60.0}, "longer than the 25 epochs"),
        ({"loss": {"kind": "mae", "huber_delta": 1.0}}, "loss.huber_delta has no effect with loss.kind 'mae'"),
        ({"loss": {"kind": "conditional_huber", "force": 0.0}}, "no effect with loss.force 0"),
        ({"loggers": ["csv", "mlflow"]}, "'csv', 'tensorboard' or 'wandb'"),
        ({"ema_decay": 1.0}, "must be less than 1"),
        ({"loss": {"energy": 0, "force": 0, "stress": 0, "magmom": 0}}, "all loss weights are 0"),
        ({1: 2}, "setting names are text"),
    ],
)
def test_bad_settings_get_one_sentence(values, told):
    with pytest.raises(ConfigError) as error:
        TransferConfig.build(values)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- 1\n- 2\n", "must hold a mapping"),
        ("epochs: [1\n", "not valid YAML"),
        ("epochs: 1\nepochs: 2\n", "given twice"),
        ("epoch: 1\n", "did you mean 'epochs'?"),
    ],
)
def test_bad_files_are_named(tmp_path, text, told):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        TransferConfig.load(path)
    assert "bad.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file():
    with pytest.raises(ConfigError, match="cannot read the settings file"):
        TransferConfig.load("nowhere.yaml")


@pytest.mark.parametrize("override", ["epochs", "=3", "loss.energy=[1"])
def test_bad_overrides(override):
    with pytest.raises(ConfigError, match="override"):
        parse_overrides([override])


def test_settings_cannot_be_changed_after_the_fact():
    with pytest.raises(Exception, match="frozen"):
        TransferConfig().epochs = 3


def test_every_setting_has_a_reason():
    rows = TransferConfig.describe()
    assert all(reason for _, _, reason in rows)
    assert "loss.energy" in {name for name, _, _ in rows}


def test_near_miss():
    assert near_miss("residul", ["residual", "refit"]) == "did you mean 'residual'?"
    assert near_miss("zzz", ["residual", "refit"]) == "known are residual, refit"
