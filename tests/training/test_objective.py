"""The objective of pre-training and the trivial predictors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn import functional

from moola.errors import DeviceError
from moola.models import Encoder
from moola.settings.models import Architecture
from moola.training.objective import MaskedAutoencoder
from moola.training.predictors import best_constants, interpolate


def autoencoder(width: int = 3, **architecture: Any) -> MaskedAutoencoder:
    torch.manual_seed(0)
    objective = MaskedAutoencoder(Encoder(width, Architecture(**{"hidden_size": 5} | architecture)))
    with torch.no_grad():
        objective.mask_vector.normal_()
    return objective.eval()


class Leaking(MaskedAutoencoder):
    """The mistake of the old pipeline: masked positions visible to the encoder."""

    def reconstruct(self, x, mask, valid=None):
        return self.decoder(self.encoder(x, valid)).float()


def gradient_to_the_input(objective: MaskedAutoencoder, masked: bool) -> float:
    x = torch.randn(4, 11, 3, requires_grad=True)
    mask = torch.rand(4, 11) < 0.4
    valid = torch.ones(4, 11, dtype=torch.bool)
    valid[:, :2] = False
    mask &= valid
    objective.mean(objective(x, mask, valid, target=torch.randn(4, 11, 3))).backward()
    assert x.grad is not None
    return x.grad[mask if masked else valid & ~mask].abs().max().item()


def test_the_loss_does_not_depend_on_masked_inputs() -> None:
    objective = autoencoder()
    assert gradient_to_the_input(objective, masked=True) == 0
    assert gradient_to_the_input(objective, masked=False) > 0
    leaking = Leaking(objective.encoder).eval()
    assert gradient_to_the_input(leaking, masked=True) > 0


def test_masked_values_change_no_bit() -> None:
    objective = autoencoder()
    x, mask = torch.randn(4, 11, 3), torch.rand(4, 11) < 0.4
    other = torch.where(mask[..., None], torch.tensor(1e6), x)
    assert torch.equal(objective.reconstruct(x, mask), objective.reconstruct(other, mask))


def test_unmasked_positions_never_enter_the_loss() -> None:
    objective = autoencoder()
    x, mask, target = torch.randn(4, 11, 3), torch.rand(4, 11) < 0.4, torch.randn(4, 11, 3)
    spoilt = torch.where(mask[..., None], target, torch.tensor(1e9))
    assert torch.equal(objective(x, mask, target=target), objective(x, mask, target=spoilt))


def test_the_loss_is_the_mean_huber_loss_over_masked_positions() -> None:
    objective = autoencoder()
    x, mask = torch.randn(4, 11, 3) * 3, torch.rand(4, 11) < 0.4
    with torch.no_grad():
        sums = objective(x, mask)
        made = objective.reconstruct(x, mask)
    d = (made - x)[mask].abs().double().numpy()
    elements = np.where(d <= 1, d**2 / 2, d - 0.5)
    np.testing.assert_allclose(sums[:-1], elements.sum(axis=0), rtol=1e-5)
    assert sums[-1] == mask.sum()
    np.testing.assert_allclose(objective.mean(sums), elements.mean(), rtol=1e-5)
    nothing = objective(x, torch.zeros_like(mask))
    assert objective.mean(nothing) == 0
    assert objective.weighted(torch.tensor(3.0)).item() == pytest.approx(1.5)


def test_the_mask_vector_and_the_decoder_are_no_part_of_the_model() -> None:
    objective = autoencoder()
    outside = {n for n, _ in objective.named_parameters() if not n.startswith("encoder.")}
    assert outside == {"mask_vector", "decoder.weight", "decoder.bias", "log_variance"}


def test_parameters_and_data_on_different_devices_are_an_error_at_once() -> None:
    with pytest.raises(DeviceError, match="the model is on cpu, the windows are on meta"):
        autoencoder().reconstruct(torch.zeros(1, 2, 3, device="meta"), torch.zeros(1, 2, dtype=torch.bool))


def test_the_model_overfits_one_batch() -> None:
    torch.manual_seed(0)
    objective = MaskedAutoencoder(
        Encoder(3, Architecture(hidden_size=24, input_dropout=0, recurrent_dropout=0, dense_dropout=0))
    )
    x, mask = torch.randn(8, 20, 3), torch.rand(8, 20) < 0.2
    optimizer = torch.optim.Adam(objective.parameters(), lr=2e-2)
    first = last = math.nan
    for step in range(150):
        optimizer.zero_grad()
        loss = objective.mean(objective(x, mask))
        objective.weighted(loss).backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.05 * first


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), n=st.integers(1, 200), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_best_constants_minimise_the_loss(seed, n, scale) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_cauchy((n, 2)) * scale).astype(np.float32)
    found = best_constants(np.array_split(x, 3))

    def error(c: float, column: int) -> float:
        return float(
            functional.huber_loss(torch.full((n,), c).double(), torch.from_numpy(x[:, column]).double())
        )

    for column in range(2):
        low, high = x[:, column].min(), x[:, column].max()
        best = minimize_scalar(
            error, (low, high), args=(column,), bounds=(low - 1, high + 1), method="bounded"
        )
        assert error(found[column], column) <= best.fun * (1 + 1e-6) + 1e-12


def test_the_best_constant_of_no_values_is_zero() -> None:
    assert best_constants([np.zeros((0, 3), np.float32)]).tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 12))
def test_interpolation_equals_numpy(seed, length) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, length, 2)).astype(np.float32)
    mask, valid = rng.random((3, length)) < 0.5, rng.random((3, length)) < 0.8
    got = interpolate(*map(torch.from_numpy, (x, mask, valid))).numpy()
    for b in range(3):
        known = np.flatnonzero(valid[b] & ~mask[b])
        for d in range(2):
            expected = np.interp(np.arange(length), known, x[b, known, d]) if len(known) else np.zeros(length)
            np.testing.assert_allclose(got[b, :, d], expected, rtol=1e-5, atol=1e-5)
