import pytest

from xclimb.config import TransferConfig
from xclimb.training.optimizers import count_plateaus, learning_rate_factor, should_stop


def test_learning_rate_falls_along_a_cosine():
    config = TransferConfig(epochs=10)
    assert learning_rate_factor(config, 0.0) == 1
    assert learning_rate_factor(config, 5.0) == pytest.approx(0.505)
    assert learning_rate_factor(config, 10.0) == pytest.approx(0.01)
    assert learning_rate_factor(TransferConfig(schedule="constant"), 45.0) == 1


def test_warm_up_rises_to_the_rate_and_the_cosine_starts_there():
    config = TransferConfig(epochs=10, warmup_epochs=2.0)
    rates = [learning_rate_factor(config, epoch / 10) for epoch in range(101)]
    assert 0 < rates[0] < 0.001
    assert rates[10] == pytest.approx(0.5, abs=1e-3)
    assert rates[20] == max(rates) == 1
    assert rates[60] == pytest.approx(0.505)
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)


def test_rate_falls_at_every_plateau_but_not_below_the_last():
    config = TransferConfig(schedule="plateau", plateau_patience=2, plateau_factor=0.1)
    falling, flat = [5.0, 4.0, 3.0], [3.0] * 7
    assert [count_plateaus(falling + flat[:k], 2) for k in range(6)] == [0, 0, 1, 1, 2, 2]
    assert learning_rate_factor(config, 3.0, falling) == 1
    assert learning_rate_factor(config, 5.0, falling + flat[:2]) == pytest.approx(0.1)
    assert learning_rate_factor(config, 9.0, falling + flat) == pytest.approx(0.01)  # final_lr_fraction


def test_early_stopping_waits_for_a_new_best():
    losses = [3.0, 2.0, 2.5, 2.4]
    assert not should_stop(losses, None)
    assert not should_stop(losses, 3)
    assert should_stop(losses, 2)
    assert not should_stop([], 1)
