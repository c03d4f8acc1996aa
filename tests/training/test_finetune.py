"""Fine-tuning: losses compared with formulas, frozen layers, what a seed fixes, and early stopping."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moola.augment import Augmentation, AugmentationConfig
from moola.errors import ConfigError, NotFiniteError
from moola.models.jade import Jade
from moola.models.spans import encode_spans
from moola.settings.models import Architecture, ModelConfig, load_config
from moola.settings.training import FinetuneConfig
from moola.training.examples import Examples
from moola.training.fitting import EpochRecord, FitResult, augmentation_for, fit_jade
from moola.training.new_model import frozen_layers, new_model
from moola.training.targets import span_targets

K, D = 20, 3
CPU = torch.device("cpu")
NOTHING = {"copies": 1, "jitter": {"p": 0.0}, "magnitude_warp": {"p": 0.0}, "time_warp": {"p": 0.0}}


def examples(n: int = 24, seed: int = 0, classes: int = 2, hidden: bool = False) -> Examples:
    """Windows of noise. Those of the last class have a span in which the first feature is raised."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, K, D)).astype(np.float32)
    y = rng.permutation(np.arange(n) % classes)
    first = rng.integers(0, K - 6, n)
    spans = np.where(y[:, None] == classes - 1, np.stack([first, first + 5], axis=1), -1)
    for x, (begin, end) in zip(X, spans, strict=True):
        if begin >= 0:
            x[begin : end + 1, 0] += 2
    valid = np.ones((n, K), np.bool_)
    if hidden:
        valid[::2, :4] = False
    return Examples(X, valid, y, spans, rng.uniform(0.5, 2, n))


def model(seed: int = 0, **architecture: object) -> Jade:
    shape = Architecture.model_validate({"hidden_size": 4, "recurrent_dropout": 0.3} | architecture)
    return new_model(ModelConfig(architecture=shape), D, seed=seed)


def fit(
    trained: Jade, given: Examples, *, seed: int = 0, report=None, validation=None, augmentation=None, **how
):
    settings_ = FinetuneConfig.model_validate({"epochs": 3, "lr": 1e-2, "freeze": "none"} | how)
    return fit_jade(
        trained,
        given,
        settings_,
        seed=seed,
        device=CPU,
        validation=validation,
        augmentation=augmentation,
        report=report,
    )


def bits(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# Losses


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("class_weight", [None, "balanced", (1.0, 3.0, 0.5)])
def test_losses_equal_their_formulas(hidden: bool, class_weight: object) -> None:
    given_ = examples(30, classes=3, hidden=hidden)
    quiet = {"input_dropout": 0.0, "recurrent_dropout": 0.0, "dense_dropout": 0.0}
    trained = model(num_classes=3, span_head=True, **quiet)
    X, y, spans = torch.from_numpy(given_.X), torch.from_numpy(given_.y), torch.from_numpy(given_.spans)
    valid = torch.from_numpy(given_.valid)
    with torch.no_grad():
        out = trained(X, valid)
    kinds, pointers, bars = 0.0, 0.0, 0.0
    kind_weights, pointer_weights, bar_weights = 0.0, 0.0, 0.0
    total = {c: given_.weight[given_.y == c].sum() for c in range(3)}
    targets = encode_spans(spans, K, valid)
    soft = span_targets(spans, K, 3.0)
    inside = float((soft * valid * torch.from_numpy(given_.weight)[:, None]).sum())
    all_bars = float((valid * torch.from_numpy(given_.weight)[:, None]).sum())
    for i, weight in enumerate(given_.weight):
        c = int(y[i])
        factor = {None: 1.0, "balanced": given_.weight.sum() / 3 / total[c]}.get(class_weight)
        factor = class_weight[c] if factor is None else factor
        kinds += weight * factor * -float(out.logits[i].log_softmax(0)[c])
        kind_weights += weight * factor
        if given_.spans[i, 0] >= 0:
            for difference, share in zip((out.pointer[i] - targets[i]).tolist(), (1.0, 0.8), strict=True):
                d = abs(difference)
                pointers += weight * share * (d**2 / 2 if d <= 0.08 else 0.08 * (d - 0.04))
            pointer_weights += weight
        p = torch.sigmoid(out.span_logits[i])
        each = -(soft[i] * p.log() * (all_bars - inside) / inside + (1 - soft[i]) * (1 - p).log())
        bars += weight * float(each[valid[i]].mean())
        bar_weights += weight

    (record,) = fit(trained, given_, epochs=1, batch_size=30, class_weight=class_weight).epochs
    assert record.losses == pytest.approx(
        {"type": kinds / kind_weights, "pointer": pointers / pointer_weights, "span": bars / bar_weights},
        rel=1e-4,
    )


def test_batches_estimate_the_loss_of_all_windows() -> None:
    given_ = examples(30)
    quiet = {"input_dropout": 0.0, "recurrent_dropout": 0.0, "dense_dropout": 0.0}
    losses = [
        fit(model(**quiet), given_, epochs=1, batch_size=size, lr=1e-9, class_weight="balanced")
        .epochs[0]
        .losses
        for size in (7, 30)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_windows_without_a_span_never_reach_the_pointer() -> None:
    without = examples()
    without.spans[:] = -1
    trained = model()
    before = bits(trained.pointer_head)
    result = fit(trained, without)
    assert list(result.epochs[0].losses) == ["type"]
    assert same(before, trained.pointer_head.state_dict())

    # If some windows have a span, the pointers of the others change nothing.
    some, other = examples(), examples()
    other.X[other.spans[:, 0] < 0] += 5
    quiet = {"input_dropout": 0.0, "recurrent_dropout": 0.0, "dense_dropout": 0.0}
    one, two = (
        fit(model(**quiet), each, epochs=1, batch_size=24).epochs[0].losses["pointer"]
        for each in (some, other)
    )
    assert one == pytest.approx(two, rel=1e-6)


def test_tasks_learn_their_weights_from_the_configured_start() -> None:
    given_ = examples()
    result = fit(model(span_head=True), given_, epochs=1, lr=1e-9, validation=given_)
    assert result.log_variances == pytest.approx({"type": 0.0, "pointer": -0.6, "span": 0.0}, abs=1e-6)
    (record,) = result.epochs
    losses = record.validation_losses
    assert losses is not None
    expected = losses["type"] + math.exp(0.6) * losses["pointer"] + losses["span"]
    assert record.validation_loss == pytest.approx(expected, rel=1e-5)
    # Their optimum is log L, so that small losses weigh more.
    learned = fit(model(), given_, epochs=20).log_variances
    assert learned["pointer"] < -0.8


def test_a_span_head_gives_probabilities_and_not_loss_weights() -> None:
    given_ = examples(n=60)
    trained = model(span_head=True, hidden_size=8, recurrent_dropout=0.0, input_dropout=0.0)
    fit(trained, given_, epochs=30)
    with torch.no_grad():
        logits = trained(torch.from_numpy(given_.X), torch.from_numpy(given_.valid)).span_logits
    assert logits is not None
    targets = span_targets(torch.from_numpy(given_.spans), K, 3.0)
    share = float(targets[torch.from_numpy(given_.valid)].mean())
    assert share < 0.2
    # With the loss weights, which balance both kinds of bars, it would be about a half.
    assert float(torch.sigmoid(logits).mean()) == pytest.approx(share, rel=0.4)


def test_a_span_head_learns_from_windows_covered_by_their_spans() -> None:
    given_ = examples()
    given_.valid[:] = (np.arange(K) >= 4) & (np.arange(K) < K - 4)
    trained = model(span_head=True)
    fit(trained, given_._replace(spans=np.tile([0, K - 1], (len(given_.y), 1))))
    assert all(parameter.isfinite().all() for parameter in trained.parameters())


@given(st.integers(0, K - 1), st.integers(0, K - 1), st.floats(0.5, 10))
def test_targets_of_bars_are_soft_only_at_the_ends(one: int, other: int, edge: float) -> None:
    first, last = sorted((one, other))
    (target,) = span_targets(torch.tensor([[first, last]]), K, edge)
    bars = torch.arange(K)
    inside = (bars >= first) & (bars <= last)
    assert ((target > 0.5) == inside).all()
    assert ((target >= 0) & (target <= 1)).all()
    distance = torch.minimum((bars - first + 0.5).abs(), (bars - last - 0.5).abs())
    assert (target[distance >= edge / 2] == inside[distance >= edge / 2]).all()
    assert not span_targets(torch.tensor([[-1, -1]]), K, edge).any()


def test_class_weights_need_one_factor_a_class() -> None:
    with pytest.raises(ConfigError, match="class_weight: has 3 factors for 2 classes; give one for each"):
        fit(model(), examples(), class_weight=(1.0, 1.0, 1.0))


def test_only_the_proportions_of_weights_matter() -> None:
    given_ = examples()
    one, other = model(), model()
    fit(one, given_)
    fit(other, given_._replace(weight=given_.weight * 4))
    assert same(bits(one), bits(other))


# Freezing


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"freeze": "none"}, [0, 0, 0, 0, 0, 0, 0]),
        ({"freeze": "always"}, [3, 3, 3, 3, 3, 3, 3]),
        ({"freeze": 2}, [3, 3, 0, 0, 0, 0, 0]),
        ({"freeze": 1, "unfreeze_every": 2}, [3, 2, 2, 1, 1, 0, 0]),
    ],
)
def test_layers_thaw_from_the_top(how: dict[str, object], expected: list[int]) -> None:
    settings_ = FinetuneConfig.model_validate(how)
    assert [frozen_layers(settings_, 3, epoch) for epoch in range(7)] == expected


@pytest.mark.parametrize("augmented", [False, True])
def test_a_frozen_encoder_keeps_its_bits(augmented: bool) -> None:
    given_ = examples(hidden=True)
    trained = model()
    encoder, heads = bits(trained.encoder), bits(trained.type_head)
    augmentation = augmentation_for(given_, AugmentationConfig(copies=2)) if augmented else None
    fit(trained, given_, freeze="always", augmentation=augmentation)
    assert same(encoder, trained.encoder.state_dict())
    assert not same(heads, trained.type_head.state_dict())
    assert all(parameter.requires_grad for parameter in trained.parameters())
    assert not trained.training


def test_a_layer_keeps_its_bits_until_it_thaws() -> None:
    given_ = examples()
    trained = model(num_layers=2)
    states = [bits(trained.encoder)]
    fit(
        trained,
        given_,
        epochs=4,
        freeze=1,
        unfreeze_every=2,
        report=lambda _: states.append(bits(trained.encoder)),
    )

    def changed(epoch: int, layer: int) -> bool:
        names = [name for name in states[0] if name.startswith(f"layers.{layer}.")]
        return not all(torch.equal(states[epoch][name], states[epoch + 1][name]) for name in names)

    assert [changed(epoch, 1) for epoch in range(4)] == [False, True, True, True]
    assert [changed(epoch, 0) for epoch in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("span_head", [False, True])
def test_cached_encodings_equal_repeated_encodings(span_head: bool) -> None:
    """A frozen encoder has no dropout, so its output for a window can be cached."""
    given_ = examples(hidden=True)
    nothing = Augmentation(np.ones(D), None, NOTHING)
    kept, anew = (
        fit(model(span_head=span_head), given_, freeze="always", validation=given_, augmentation=augmentation)
        for augmentation in (None, nothing)
    )
    for one, other in zip(kept.epochs, anew.epochs, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-4)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-4)


# Seeds


def test_a_seed_fixes_every_bit_and_nothing_global_changes() -> None:
    given_ = examples()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()
    trained = []
    for seed in (3, 3, 4):
        torch.rand(seed)
        trained.append(model(seed=3))
        fit(trained[-1], given_, seed=seed, augmentation=augmentation_for(given_, AugmentationConfig()))
    torch.set_rng_state(state)
    again = model(seed=3)
    fit(again, given_, seed=3, augmentation=augmentation_for(given_, AugmentationConfig()))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))
    assert same(bits(trained[0]), bits(trained[1]))
    assert same(bits(trained[0]), bits(again))
    assert not same(bits(trained[0]), bits(trained[2]))


def test_models_made_in_threads_depend_only_on_their_seeds() -> None:
    alone = [bits(model(seed=seed)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: bits(model(seed=seed)), range(8)))
    assert all(map(same, alone, together))
    assert not same(alone[0], alone[1])


def test_one_thread_is_enough_and_the_others_come_back() -> None:
    before, seen = torch.get_num_threads(), []

    def report(_: EpochRecord) -> None:
        seen.append(torch.get_num_threads())
        if len(seen) > 1:
            raise KeyError

    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyError):
            fit(model(), examples(), report=report)
        assert torch.get_num_threads() == 3
        assert seen == [1, 1]
    finally:
        torch.set_num_threads(before)


# Augmentation


class Recorder(Augmentation):
    """Passes windows on, and records the requested ones."""

    def __init__(self, copies: int) -> None:
        super().__init__(np.ones(D), None, NOTHING | {"copies": copies})
        self.keys: list[Tensor] = []

    def forward(self, x, keys, spans=None, valid=None):
        self.keys.append(keys)
        return super().forward(x, keys, spans, valid)


def test_each_window_is_repeated_as_configured_with_its_own_draw() -> None:
    given_ = examples(23)
    recorder = Recorder(5)
    fit(model(), given_, epochs=3, batch_size=7, augmentation=recorder)
    keys = torch.cat(recorder.keys).tolist()
    assert len(keys) == len(set(keys)) == 3 * 5 * 23


def test_augmentation_of_windows_knows_their_deviation_and_range() -> None:
    given_ = examples(hidden=True)
    seen = given_.X[given_.valid]
    given_.X[~given_.valid] = 1e6
    augmentation = augmentation_for(given_, AugmentationConfig())
    np.testing.assert_allclose(augmentation.jitter.scale, seen.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(augmentation.ranges, np.stack([seen.min(axis=0), seen.max(axis=0)], axis=1))


# Validation


def judge(trained: Jade, given_: Examples) -> float:
    with torch.no_grad():
        out = trained(torch.from_numpy(given_.X), torch.from_numpy(given_.valid))
    return float(F.cross_entropy(out.logits, torch.from_numpy(given_.y)))


def test_the_best_epoch_is_restored_and_training_stops() -> None:
    train, validation = examples(20, seed=1), examples(20, seed=2)
    # Unpredictable labels, so that learning soon overfits.
    rng = np.random.default_rng(0)
    train, validation = (
        each._replace(y=rng.permutation(each.y), spans=np.full_like(each.spans, -1), weight=np.ones(20))
        for each in (train, validation)
    )
    trained = model(hidden_size=8)
    reported: list[EpochRecord] = []
    result = fit(
        trained,
        train,
        epochs=200,
        patience=12,
        lr_patience=2,
        validation=validation,
        report=reported.append,
    )
    losses = [record.validation_loss for record in result.epochs]
    assert tuple(reported) == result.epochs
    assert result.stopped_early
    assert result.best_epoch == int(np.argmin(losses))
    assert len(result.epochs) == result.best_epoch + 12 + 1
    assert judge(trained, validation) == pytest.approx(min(losses), rel=1e-5)
    rates = [record.lr for record in result.epochs]
    assert rates[0] == 1e-2
    assert rates[-1] < rates[0]
    assert {round(b / a, 6) for a, b in pairwise(rates)} == {0.7, 1.0}


def test_a_layer_that_thaws_gets_its_time() -> None:
    def epochs_of(**how: object) -> FitResult:
        return fit(model(), examples(), epochs=12, lr=1e-12, patience=2, validation=examples(seed=1), **how)

    assert len(epochs_of(freeze="always").epochs) <= 4
    assert len(epochs_of(freeze=2, unfreeze_every=2).epochs) >= 7


def test_all_epochs_are_trained_without_validation() -> None:
    result = fit(model(), examples(), epochs=7, patience=1, lr_patience=0)
    assert len(result.epochs) == 7
    assert result.best_epoch == 6
    assert not result.stopped_early
    assert {record.lr for record in result.epochs} == {1e-2}
    assert result.epochs[0].validation_loss is None


def test_an_exception_in_the_report_ends_the_training() -> None:
    class PrunedError(Exception):
        pass

    def report(record: EpochRecord) -> None:
        if record.epoch == 1:
            raise PrunedError

    with pytest.raises(PrunedError):
        fit(model(), examples(), report=report)


def test_a_diverging_training_is_an_error() -> None:
    given_ = examples()
    given_.X[3, 4, 0] = np.inf
    with pytest.raises(NotFiniteError) as caught:
        fit(model(), given_, batch_size=24)
    assert str(caught.value) == (
        "the gradient of step 0 is not finite, and the step was not taken. "
        "Lower the learning rate, or clip gradients to a smaller norm"
    )


# Encoders


def test_a_model_starts_from_an_encoder() -> None:
    encoder = model(seed=5).encoder
    encoder.scale.fill_(3)
    made = new_model(ModelConfig(architecture=model().architecture), D, seed=1, encoder=encoder)
    assert same(bits(encoder), bits(made.encoder))
    assert same(bits(made.type_head), bits(model(seed=1).type_head))


@pytest.mark.parametrize(
    ("architecture", "width", "words"),
    [
        (
            {"hidden_size": 5},
            D,
            "hidden_size: is 5 in the model and 4 in the encoder; fine-tune the model that was",
        ),
        ({"num_layers": 1}, D, "num_layers: is 1 in the model and 2 in the encoder"),
        ({"use_position": True}, D, "use_position: is True in the model and False in the encoder"),
        ({}, 4, "encoder: was pre-trained on 3 features, the windows have 4; give windows of the features"),
    ],
)
def test_an_encoder_of_another_shape_is_refused(architecture, width: int, words: str) -> None:
    shape = Architecture.model_validate({"hidden_size": 4} | architecture)
    with pytest.raises(ConfigError, match=words):
        new_model(ModelConfig(architecture=shape), width, seed=0, encoder=model().encoder)


# Configuration


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "training.finetune.freeze=0",
            "freeze: input should be 'none' or 'always', or input should be greater than",
        ),
        (
            "training.finetune.freeze=soon",
            "training.finetune.freeze: input should be 'none' or 'always', or input",
        ),
        (
            "training.finetune.class_weight=[1, -2]",
            "training.finetune.class_weight: input should be 'balanced'",
        ),
        (
            "training.finetune.epoch=1",
            "training.finetune.epoch: there is no such parameter; the parameters are epochs",
        ),
        ("augmentation.copies=0", "augmentation.copies: input should be greater than or equal to 1, not 0"),
        (
            "augmentation.warp=1",
            "augmentation.warp: there is no such parameter; the parameters are copies, jitter",
        ),
        (
            "augmentation.jitter.q=1",
            "augmentation.jitter.q: there is no such parameter; the parameters are sigma, p",
        ),
    ],
)
def test_a_wrong_setting_is_named(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_config("jade", [setting])


def test_default_settings_suit_few_labels() -> None:
    config = load_config("jade_compact")
    assert config.augmentation == AugmentationConfig()
    assert config.training.finetune == FinetuneConfig(
        lr=1e-4,
        weight_decay=1e-4,
        batch_size=16,
        clip_norm=1.5,
        patience=15,
        lr_factor=0.7,
        lr_patience=8,
        min_lr=1e-7,
    )
    changed = load_config("jade", ["augmentation=null", "training.finetune.class_weight=[1, 2]"])
    assert changed.augmentation is None
    assert changed.training.finetune.class_weight == (1.0, 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_windows_are_overfitted(seed: int) -> None:
    given_ = examples(8, seed=seed)
    trained = model(hidden_size=16, input_dropout=0.0, recurrent_dropout=0.0, dense_dropout=0.0)
    fit(trained, given_, epochs=60, batch_size=8)
    with torch.no_grad():
        out = trained(torch.from_numpy(given_.X))
    assert (out.logits.argmax(1).numpy() == given_.y).all()
