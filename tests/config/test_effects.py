"""Options that would have no effect are refused, those that have one and defaults are not."""

import pytest

from fer_jax.config.defaults import default_config
from fer_jax.config.effects import check_effects
from fer_jax.config.loading import from_json, to_json
from fer_jax.data.input_choice import RESIDENT_LIMIT
from fer_jax.errors import InputError
from fer_jax.train import train


def _config(**values):
    """The defaults with `values` by key, `__` for the dot."""
    config = default_config()
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in values.items()})
    return config


WITHOUT_EFFECT = [
    ({"optimizer__momentum": 0.5}, r"optimizer\.momentum=0\.5: .*config\.optimizer\.name=adam has moments of its own"),
    ({"train__early_stopping_patience": 100}, r"patience=100: .* a run of 100 epochs .* ends before"),
    ({"data__workers": 2, "data__input": "resident"}, r"data\.workers=2: .* resident \(as config\.data\.input says\)"),
    ({"data__workers": 2}, r"data\.workers=2: .* resident \(1 MiB of images, at most 2,048 MiB\)"),
    ({"data__workers": 2, "data__input": "streaming", "train__cached_views": 3}, r"workers=2: .*cached_views=3 reads"),
    ({"model__dropout": 0.5, "model__hidden_units": ()}, r"model\.dropout=0\.5: .*hidden_units=\(\) leaves no layer"),
    ({"data__vote_classes": 7}, r"data\.vote_classes=7: .*config\.data\.votes names no file"),
    ({"data__twins": "twins.csv"}, r"data\.twins=twins\.csv: .*drop_twins=none needs no list"),
    ({"data__vote_labels": "majority"}, r"data\.vote_labels=majority: .*config\.data\.votes names no file"),
    ({"model__drop_path": 0.1, "model__backbones": ("mobilenet_v2",)}, r"model\.drop_path=0\.1: .* of mobilenet_v2"),
]


@pytest.mark.parametrize(("values", "message"), WITHOUT_EFFECT)
def test_an_option_without_effect_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        check_effects(_config(**values), 2**20)


@pytest.mark.parametrize(
    ("values", "num_bytes"),
    [
        ({}, 2**20),
        ({"optimizer__name": "sgd", "optimizer__momentum": 0.5}, 2**20),
        ({"train__early_stopping_patience": 99}, 2**20),
        ({"data__workers": 2, "data__input": "streaming"}, 2**20),
        ({"data__workers": 2}, RESIDENT_LIMIT + 1),
        ({"data__workers": 0, "data__input": "resident"}, 2**20),
        ({"model__dropout": 0.5}, 2**20),
        ({"model__dropout": 0.0, "model__hidden_units": ()}, 2**20),
        ({"model__hidden_units": ()}, 2**20),
        ({"data__votes": "votes.csv", "data__vote_labels": "majority", "data__vote_classes": 7}, 2**20),
        ({"model__backbones": ("mobilenet_v2",)}, 2**20),
        ({"model__drop_path": 0.0, "model__backbones": ("mobilenet_v2",)}, 2**20),
        ({"model__drop_path": 0.1, "model__backbones": ("mobilenet_v2", "efficientnet_b0")}, 2**20),
    ],
)
def test_a_default_and_an_option_with_an_effect_are_not(values, num_bytes):
    check_effects(_config(**values), num_bytes)


def test_it_is_refused_before_any_work(make_tiny_config, faces, tmp_path):
    config = make_tiny_config()
    config.data.workers = 2
    with pytest.raises(InputError, match=r"config\.data\.workers=2: has no effect"):
        train(config, faces, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("values", [values for values, _ in WITHOUT_EFFECT])
def test_the_config_of_an_earlier_run_can_still_be_read(values):
    config = _config(**values)
    assert from_json(to_json(config)) == config
