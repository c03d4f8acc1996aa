"""The models: sizes, independence of padding, repeatable dropout, configurations and weights."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from moola.cli import app
from moola.errors import ConfigError, FeatureMismatchError, InputError, WeightsError
from moola.models import (
    Encoder,
    FeatureIdentity,
    Jade,
    JadeCompact,
    build_model,
    decode_spans,
    encode_spans,
    load_config,
    load_encoder,
    load_model,
    most_likely_spans,
    pool,
)
from moola.models.dropout import Dropout, seed_dropout
from moola.models.weights import Origin, load_weights, save_weights
from moola.settings.models import Architecture, Config, ModelConfig, shipped_models

COUNTS = {"jade": 565_636, "jade_compact": 143_556}
IDENTITY = FeatureIdentity("ohlc4", {"atr_period": 10}, ("open", "high", "low", "close"))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_exact() -> None:
    assert parameters(Jade(input_size=4)) == COUNTS["jade"]
    assert parameters(JadeCompact()) == COUNTS["jade_compact"]
    assert {name: parameters(build_model(name)) for name in shipped_models()} == COUNTS


@pytest.mark.parametrize("name", shipped_models())
def test_bundled_configurations_load(name: str) -> None:
    config = load_config(name)
    assert config.model.name == name
    model = build_model(config, 10).eval()
    assert model(torch.randn(2, 30, 10)).logits.shape == (2, 2)
    cls = {"jade": Jade, "jade_compact": JadeCompact}[name]
    assert cls().architecture == config.model.architecture


@settings(deadline=None, max_examples=40)
@given(
    features=st.integers(1, 6),
    hidden=st.integers(2, 9),
    layers=st.integers(1, 3),
    classes=st.integers(2, 4),
    position=st.booleans(),
    span=st.booleans(),
)
def test_any_architecture_has_its_shapes_and_counts(
    features, hidden, layers, classes, position, span
) -> None:
    model = Jade(
        features,
        hidden_size=hidden,
        num_layers=layers,
        num_classes=classes,
        use_position=position,
        span_head=span,
    ).eval()
    x = torch.randn(3, 7, features)
    out = model(x)
    assert out.logits.shape == (3, classes)
    assert out.pointer.shape == (3, 2)
    assert ((out.pointer >= 0) & (out.pointer <= 1)).all()
    assert (out.span_logits is None) == (not span)
    if out.span_logits is not None:
        assert out.span_logits.shape == (3, 7)
    width, lstm = features + position, 0
    for _ in range(layers):
        lstm += 2 * (4 * hidden * (width + hidden) + 8 * hidden)
        width = 2 * hidden
    heads = sum(width * (hidden // 2) + hidden // 2 + (hidden // 2) * n + n for n in (classes, 2))
    assert parameters(model) == lstm + heads + span * (width + 1)


# Padding


@settings(deadline=None, max_examples=40)
@given(before=st.integers(0, 5), after=st.integers(0, 5), seed=st.integers(0, 99))
def test_padding_has_no_effect(before, after, seed) -> None:
    torch.manual_seed(seed)
    model = Jade(3, hidden_size=6).eval()
    x = torch.randn(2, 9, 3)
    padded = torch.cat([torch.randn(2, before, 3) * 1e3, x, torch.randn(2, after, 3) * 1e3], dim=1)
    valid = torch.zeros(padded.shape[:2], dtype=torch.bool)
    valid[:, before : before + 9] = True
    alone, with_padding = model(x), model(padded, valid)
    torch.testing.assert_close(with_padding.logits, alone.logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(with_padding.pointer, alone.pointer, rtol=1e-6, atol=1e-6)
    encoded = model.encoder(padded, valid)
    assert not encoded[:, :before].any()
    assert not encoded[:, before + 9 :].any()


def test_hidden_bars_change_nothing_even_if_nan() -> None:
    torch.manual_seed(0)
    model = Jade(3, hidden_size=6).eval()
    x, valid = torch.randn(4, 12, 3), torch.rand(4, 12) > 0.3
    valid[:, 3] = True
    other = torch.where(valid[..., None], x, torch.tensor(torch.nan))
    assert torch.equal(model(x, valid).logits, model(other, valid).logits)
    assert torch.equal(model.encoder(x, valid), model.encoder(other, valid))


def test_a_mask_of_all_valid_bars_equals_no_mask() -> None:
    model = Jade(3, hidden_size=6).eval()
    x = torch.randn(4, 12, 3)
    assert torch.equal(model(x, torch.ones(4, 12, dtype=torch.bool)).logits, model(x).logits)


def test_pooling_takes_the_mean_over_valid_bars() -> None:
    x, valid = torch.randn(3, 5, 2), torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]]).bool()
    expected = torch.stack([x[0].mean(0), x[1, [2, 4]].mean(0), torch.zeros(2)])
    torch.testing.assert_close(pool(x, valid), expected)
    torch.testing.assert_close(pool(x), x.mean(1))


def test_position_is_appended_and_not_stored() -> None:
    torch.manual_seed(0)
    model = Encoder(2, Architecture(hidden_size=4, use_position=True)).eval()
    plain = Encoder(3, Architecture(hidden_size=4)).eval()
    plain.layers.load_state_dict(model.layers.state_dict())
    x = torch.randn(2, 5, 2)
    position = torch.linspace(0, 1, 5).expand(2, 5)[..., None]
    torch.testing.assert_close(model(x), plain(torch.cat([x, position], dim=2)))
    assert model(x[:, :1]).shape == (2, 1, 8)


# Dropout


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.65, 0.999])
def test_dropout_keeps_its_share_and_its_mean(p: float) -> None:
    module = Dropout(p)
    module.generator = torch.Generator().manual_seed(1)
    x = torch.ones(400, 1001)
    y = module(x)
    kept = (y != 0).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * (p * (1 - p) / x.numel()) ** 0.5 + 1e-5
    assert abs(y.double().mean().item() - 1) < 5 * (p / (1 - p) / x.numel()) ** 0.5 + 1e-9
    assert len(y.unique()) == (2 if p else 1)
    assert torch.equal(module.eval()(x), x)


def test_dropout_depends_only_on_its_seed() -> None:
    model = JadeCompact()
    x = torch.randn(4, 20, 4)
    draws = []
    for words in ((1, 2, 0), (1, 2, 0), (1, 3, 0), (1, 2, 1)):
        torch.manual_seed(len(draws))
        seed_dropout(model, *words)
        draws.append(model(x).logits)
    assert torch.equal(draws[0], draws[1])
    assert not any(torch.equal(draws[0], other) for other in draws[2:])
    before = torch.get_rng_state()
    model(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_models_can_be_copied_and_pickled_after_drawing_dropout() -> None:
    model = JadeCompact()
    seed_dropout(model, 1)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        x = torch.randn(2, 9, 4)
        assert torch.equal(twin.eval()(x).logits, model.eval()(x).logits)


# Spans


@settings(deadline=None, max_examples=40)
@given(length=st.integers(1, 500), data=st.data())
def test_encoded_spans_are_decoded(length, data) -> None:
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first, length - 1))
    span = torch.tensor([[first, last]])
    pointer = encode_spans(span, length)
    center = (first + last) / 2 / (length - 1) if length > 1 else 0.0
    np.testing.assert_allclose(pointer[0], [center, (last - first + 1) / length], rtol=1e-6)
    assert torch.equal(decode_spans(pointer, length), span)


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 60),
    before=st.integers(0, 9),
    after=st.integers(0, 9),
    point=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    data=st.data(),
)
def test_padding_moves_a_span_along_and_changes_nothing_else(length, before, after, point, data) -> None:
    first = data.draw(st.integers(0, length - 1))
    span = torch.tensor([[first, data.draw(st.integers(first, length - 1))]])
    valid = torch.zeros(1, before + length + after, dtype=torch.bool)
    # Its ends may be visible; hidden bars between them count.
    valid[0, before : before + length] = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    )
    valid[0, [before, before + length - 1]] = True
    padded = valid.shape[1]
    assert torch.equal(encode_spans(span + before, padded, valid), encode_spans(span, length))
    pointer = torch.tensor([point])
    assert torch.equal(decode_spans(pointer, padded, valid), decode_spans(pointer, length) + before)
    # If no bar is visible, the window is unchanged.
    assert torch.equal(decode_spans(pointer, padded, valid & False), decode_spans(pointer, padded))


def test_a_span_excludes_padding() -> None:
    valid = torch.tensor([[False] * 3 + [True] * 5 + [False] * 2])
    for given_, seen in (([0, 5], [3, 5]), ([4, 9], [4, 7]), ([1, 8], [3, 7]), ([0, 1], [3, 3])):
        pointer = encode_spans(torch.tensor([given_]), 10, valid)
        assert decode_spans(pointer, 10, valid).tolist() == [seen]


@settings(deadline=None, max_examples=15)
@given(before=st.integers(0, 6), after=st.integers(0, 6), position=st.booleans(), span_head=st.booleans())
def test_padding_changes_no_answer(before, after, position, span_head) -> None:
    torch.manual_seed(1)
    model = Jade(3, hidden_size=8, num_layers=2, use_position=position, span_head=span_head).eval()
    x = torch.randn(4, 11, 3)
    padded = torch.full((4, before + 11 + after, 3), 1e4)
    padded[:, before : before + 11] = x
    valid = torch.zeros(padded.shape[:2], dtype=torch.bool)
    valid[:, before : before + 11] = True
    with torch.no_grad():
        plain, hidden = model(x), model(padded, valid)
    torch.testing.assert_close(hidden.logits, plain.logits)
    torch.testing.assert_close(hidden.pointer, plain.pointer)
    assert torch.equal(hidden.spans(padded.shape[1], valid), plain.spans(11) + before)


@settings(deadline=None, max_examples=40)
@given(length=st.integers(1, 300), center=st.floats(0, 1), share=st.floats(0, 1))
def test_decoded_spans_lie_in_the_window(length, center, share) -> None:
    first, last = decode_spans(torch.tensor([[center, share]]), length)[0].tolist()
    assert 0 <= first <= last < length


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 12), data=st.data())
def test_the_most_likely_span_has_the_highest_likelihood(length, data) -> None:
    numbers = st.lists(st.integers(-20, 20), min_size=length, max_size=length)
    logits = np.array(data.draw(numbers)) / 4
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    valid[data.draw(st.integers(0, length - 1))] = True

    def log_likelihood(first: int, last: int) -> float:
        inside = (np.arange(length) >= first) & (np.arange(length) <= last)
        p = 1 / (1 + np.exp(-logits))
        return float(np.log(np.where(inside, p, 1 - p)).sum())

    spans = [
        (first, last)
        for first in range(length)
        for last in range(first, length)
        if valid[first : last + 1].all()
    ]
    given_ = torch.tensor(logits, dtype=torch.float32)[None], torch.tensor(valid)[None]
    found = tuple(most_likely_spans(*given_)[0].tolist())
    assert found in spans
    best = max(log_likelihood(*span) for span in spans)
    assert log_likelihood(*found) == pytest.approx(best, abs=1e-9)


def test_spans_come_from_the_span_head_if_there_is_one() -> None:
    x = torch.randn(3, 20, 4)
    with torch.no_grad():
        pointing = JadeCompact().eval()(x)
        marking = JadeCompact(span_head=True).eval()(x)
    assert torch.equal(pointing.spans(20), decode_spans(pointing.pointer, 20))
    assert torch.equal(marking.spans(20), most_likely_spans(marking.span_logits))


# Configurations


def test_a_yaml_file_makes_a_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  name: mine\n  architecture: {hidden_size: 96, use_position: true}\n")
    config = load_config(path, ["training.pretrain.lr=3e-4", "model.architecture.num_classes=3"])
    assert config.model.name == "mine"
    assert config.training.pretrain.lr == 3e-4
    model = build_model(config, 10)
    assert model.encoder.hidden_size == 96
    assert model.architecture.num_classes == 3
    assert parameters(build_model(str(path), 10)) == parameters(Jade(10, hidden_size=96, use_position=True))


@pytest.mark.parametrize(
    ("override", "name", "words"),
    [
        ("model.architecture.hidden=3", "model.architecture.hidden", "hidden_size"),
        ("model.architecture.hidden_size=0", "model.architecture.hidden_size", "greater than or equal to 2"),
        ("model.architecture.hidden_size=64.5", "model.architecture.hidden_size", "integer"),
        ("model.architecture.hidden_size='64'", "model.architecture.hidden_size", "integer"),
        ("model.architecture.input_dropout=1", "model.architecture.input_dropout", "less than 1"),
        ("model.architecture.input_dropout=.nan", "model.architecture.input_dropout", "finite"),
        ("model.architecture.use_position=1", "model.architecture.use_position", "boolean"),
        ("model.architecture=3", "model.architecture", "Architecture"),
        ("training.pretrain.lr=-1", "training.pretrain.lr", "greater than 0"),
        ("training.pretrain.mask_strategy=blocks", "training.pretrain.mask_strategy", "'random' or 'patch'"),
        ("training.pretrain.mask_ratio=1", "training.pretrain.mask_ratio", "less than 1"),
        ("training.pretrain.momentum=1", "training.pretrain.momentum", "there is no such parameter"),
        ("optimiser.lr=1", "optimiser", "there is no such parameter"),
        ("model.name.first=1", "model.name.first", "name holds a value, not a section"),
        ("lr", "set", "is not KEY=VALUE"),
        ("=1", "set", "is not KEY=VALUE"),
        ("training.pretrain.lr=[1", "training.pretrain.lr", "is not a YAML value"),
    ],
)
def test_wrong_keys_and_values_are_named(override: str, name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("jade", [override])
    assert caught.value.name == name
    assert words in str(caught.value)


def test_every_field_refuses_a_wrong_type() -> None:
    """No field of any section accepts a mapping, or a list that contains one."""

    def fields(model, path=()):
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from fields(inner, (*path, name))
            else:
                yield (*path, name)

    names = list(fields(Config))
    assert ("model", "architecture", "hidden_size") in names
    for path in names:
        for wrong in ("{a: 1}", "[{a: 1}]"):
            with pytest.raises(ConfigError, match=re.escape(".".join(path[:2]))):
                load_config("jade", [f"{'.'.join(path)}={wrong}"])


def test_invalid_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'jad' is neither a file nor one of jade, jade_compact"):
        load_config("jad")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "twice.yaml").write_text("model: {name: a}\nmodel: {name: b}\n")
    with pytest.raises(InputError, match="is not valid YAML"):
        load_config(tmp_path / "twice.yaml")
    with pytest.raises(ConfigError, match="hidden_size"):
        Jade(4, hidden_size=0)


def test_models_command_lists_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["models", "--json", "--windows", "174"])
    assert ended.value.code == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert {name: row["parameters"] for name, row in listed.items()} == COUNTS
    assert listed["jade_compact"]["per_window"] == pytest.approx(143_556 / 174)
    assert listed["jade"]["weights"] == 4 * 565_636
    assert listed["jade"]["training"] > listed["jade_compact"]["training"] > 16 * 143_556


# Weights


def save(path: Path, model: Jade, kind: str = "finetune", identity: FeatureIdentity = IDENTITY) -> None:
    config = ModelConfig(name="jade", architecture=model.architecture)
    save_weights(path, model.state_dict(), Origin(kind, config, identity, 105, {"note": 1}).record())


def test_weights_are_loaded_with_their_origin(tmp_path: Path) -> None:
    model = JadeCompact(num_classes=3).eval()
    save(tmp_path / "best.safetensors", model)
    again = load_model(tmp_path)
    x = torch.randn(2, 50, 4)
    assert torch.equal(again(x).logits, model(x).logits)
    assert again.origin is not None
    assert again.origin.features == IDENTITY
    assert again.origin.more == {"note": 1}
    encoder = load_encoder(tmp_path / "best.safetensors")
    assert torch.equal(encoder(x), model.encoder(x))
    assert not encoder.training
    assert encoder.origin == again.origin


def test_writing_the_same_weights_gives_the_same_file(tmp_path: Path) -> None:
    model = JadeCompact()
    for name in ("a", "b"):
        save(tmp_path / name, model)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save(path, Jade(2, hidden_size=2))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 400, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"best\.safetensors"):
            load_weights(path)


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_truncated_weights_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "best.safetensors"
    save(path, Jade(2, hidden_size=2))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=r"is damaged.*\. Restore it from a copy, or train again"):
        load_weights(path)


def test_foreign_and_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no such file\. Give a run directory"):
        load_encoder(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="there is no such file"):
        load_encoder(tmp_path)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="was not written by moola"):
        load_encoder(tmp_path / "foreign.safetensors")
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(2)}, {"kind": "finetune"})
    with pytest.raises(WeightsError, match="does not describe its model"):
        load_encoder(tmp_path / "other.safetensors")
    save(tmp_path / "misfit.safetensors", Jade(2, hidden_size=2))
    with pytest.raises(WeightsError, match="its tensors do not match the model it describes"):
        load_encoder(tmp_path / "misfit.safetensors")
    save(tmp_path / "pretrained.safetensors", Jade(4, hidden_size=2), kind="pretrain")
    with pytest.raises(WeightsError, match="without trained heads"):
        load_model(tmp_path / "pretrained.safetensors")


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (FeatureIdentity("relativity10", {}, ("a",)), "--feature-set ohlc4"),
        (
            FeatureIdentity("ohlc4", {"atr_period": 14}, IDENTITY.columns),
            "with atr_period 14, the weights were",
        ),
        (
            FeatureIdentity("ohlc4", IDENTITY.parameters, ("open", "high")),
            "the weights expect open, high, low, close",
        ),
        (FeatureIdentity("ohlc4", IDENTITY.parameters, IDENTITY.columns, ("volume",)), "built with --keep"),
    ],
)
def test_weights_of_other_features_are_refused(given_: FeatureIdentity, words: str) -> None:
    with pytest.raises(FeatureMismatchError, match=re.escape(words)):
        IDENTITY.require(given_, "STORE")
    IDENTITY.require(FeatureIdentity.parse(json.loads(json.dumps(IDENTITY.record()))), "STORE")
