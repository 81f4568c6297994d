"""A hybrid whose backbones come from runs of one's own."""

import dataclasses

import jax
import numpy as np
import pytest

from fer_jax.data.synthetic import synthetic_faces
from fer_jax.errors import InputError
from fer_jax.inference.model import TrainedModel
from fer_jax.params.trainable import resolve
from fer_jax.pretrained.initial import InitialBackbone
from fer_jax.runs.checkpoint import find_model
from fer_jax.runs.record import as_json, decode_record
from fer_jax.train import train
from fer_jax.training.program import TrainProgram
from fer_jax.warm_start import random_and_frozen, starting_backbones, starting_point
from fer_jax.zoo.model_file import write_model_file
from fer_jax.zoo.storage import Storage


@pytest.fixture(scope="module")
def data():
    return synthetic_faces(32, 16, 16, seed=0)


def with_checkpoints(config, **places):
    """The key of a backbone that only tests know is new to the config."""
    with config.unlocked():
        config.backbone_checkpoints.update(places)
    return config


@pytest.fixture(scope="module")
def run(make_tiny_config, data, tmp_path_factory):
    """The folder of a run that trained `tiny` for an epoch, and the description that `train` returned."""
    config = make_tiny_config()
    config.train.epochs = 1
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    return workdir, train(config, data, workdir)


def hybrid_config(make_tiny_config, **places):
    config = with_checkpoints(make_tiny_config(), **places)
    config.model.backbones = ("tiny", "mini")
    return config


def saved_backbone(workdir, name):
    """Parameters and statistics of a backbone as the checkpoint of `workdir` has them."""
    import orbax.checkpoint as ocp

    saved = find_model(workdir)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        arguments = ocp.args.Composite(model=ocp.args.StandardRestore())
        model = checkpointer.restore(saved.folder / str(saved.step), args=arguments).model
    return model["params"]["backbones"][name], model["batch_stats"]["backbones"][name]


def assert_equal_leaves(found, expected):
    # A checkpoint read without a template has text for the indices of blocks.
    named = [
        {jax.tree_util.keystr(p).replace("'", ""): x for p, x in jax.tree_util.tree_leaves_with_path(t)}
        for t in (found, expected)
    ]
    assert named[0].keys() == named[1].keys()
    for path, leaf in named[0].items():
        np.testing.assert_array_equal(leaf, named[1][path], err_msg=path)


def test_backbone_starts_as_the_run_left_it_and_says_so(run, make_tiny_config, data):
    workdir, result = run
    config = hybrid_config(make_tiny_config, tiny=str(workdir))
    tiny, mini = starting_backbones(config, data.fingerprint())
    assert_equal_leaves((tiny.params, tiny.batch_stats), saved_backbone(workdir, "tiny"))
    accuracy = 100 * result.best.validation_accuracy
    assert str(workdir / "checkpoints" / "best" / str(result.best.step)) in tiny.origin
    assert f"{accuracy:.2f} % on validation of data {data.fingerprint()[:12]}, itself from scratch" in tiny.origin
    assert "careful" not in tiny.origin
    assert (mini.spec.name, mini.params, mini.origin) == ("mini", None, "scratch")


def test_other_data_are_pointed_out(run, make_tiny_config):
    config = with_checkpoints(make_tiny_config(), tiny=str(run[0]))
    (tiny,) = starting_backbones(config, "0123456789abcdef")
    assert "careful: this run has other data (0123456789ab)" in tiny.origin


def test_variant_is_that_of_the_checkpoint(run, make_tiny_config, tiny_backbone, monkeypatch):
    """The published preprocessing and padding of a backbone are not those of weights from elsewhere."""
    import fer_jax.warm_start as module

    other = dataclasses.replace(tiny_backbone, padding="symmetric", batch_norm_epsilon=1e-5)
    saved = find_model(run[0])
    content = as_json(saved.record)
    content["description"]["backbones"] = [{**content["description"]["backbones"][0], **other.variant()}]
    changed = dataclasses.replace(saved, record=decode_record(content, "the record"))
    monkeypatch.setattr(module, "open_saved", lambda path: changed)
    (tiny,) = starting_backbones(with_checkpoints(make_tiny_config(), tiny=str(run[0])), "")
    assert tiny.spec == other


def test_frozen_hybrid_keeps_the_backbones_of_its_runs(run, make_tiny_config, data, tmp_path):
    workdir, _ = run
    config = with_checkpoints(make_tiny_config(), tiny=str(workdir))
    config.init = "checkpoints"
    config.train.parameters = ("classifier/**: train", "backbones/**: freeze")
    config.train.epochs = 1
    result = train(config, data, tmp_path / "hybrid")
    assert_equal_leaves(saved_backbone(tmp_path / "hybrid", "tiny"), saved_backbone(workdir, "tiny"))
    assert str(workdir) in result.description.backbones[0].initial_weights
    assert as_json(result.description.parameters[1]) == {
        "row": "backbones/**: freeze",
        "tensors": len(jax.tree.leaves(saved_backbone(workdir, "tiny")[0])),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(saved_backbone(workdir, "tiny")[0])),
    }
    text = (tmp_path / "hybrid" / "freeze.txt").read_text()
    assert "classifier/**: train" in text
    assert "optimizer state: " in text


def test_new_run_starts_from_a_whole_model(run, make_tiny_config, data, read_checkpoint, tmp_path, monkeypatch):
    """Classifier included, at another size of the images too; it is a run of its own."""
    workdir, _ = run
    config = make_tiny_config()
    config.train.epochs = 1
    config.init_from = str(workdir)
    initial_state, states = TrainProgram.initial_state, []

    def noted(*arguments):
        states.append(jax.device_get(initial_state(*arguments)))
        return initial_state(*arguments)

    monkeypatch.setattr(TrainProgram, "initial_state", noted)
    result = train(config, data, tmp_path)
    saved = read_checkpoint(workdir / "checkpoints" / "best", "model")
    [state] = states
    found = {f"model{jax.tree_util.keystr(p)}": x for p, x in jax.tree_util.tree_leaves_with_path(state.model())}
    assert {path.replace("'", ""): x.tobytes() for path, x in found.items()} == {
        path.replace("'", ""): x.tobytes() for path, x in saved.items()
    }
    origin = result.description.backbones[0].initial_weights
    assert origin.startswith(f"whole model of checkpoint {workdir / 'checkpoints' / 'best'}")
    assert len(result.history) == 1
    config.model.input_size = 48
    assert starting_point(config, "", data.class_names).classifier is not None


def test_new_run_starts_from_the_file_of_a_model(run, make_tiny_config, data, tmp_path):
    model = TrainedModel(run[0])
    file = tmp_path / "tiny.safetensors"
    write_model_file(
        file,
        *model.weights(),
        record=model.record,
        storage=Storage("float32", "float32"),
        temperature=None,
        provenance={},
    )
    config = make_tiny_config()
    config.init_from = str(file)
    found = starting_point(config, data.fingerprint(), data.class_names)
    config.init_from = str(run[0])
    expected = starting_point(config, data.fingerprint(), data.class_names)
    jax.tree.map(np.testing.assert_array_equal, found.classifier, expected.classifier)
    jax.tree.map(np.testing.assert_array_equal, found.backbones[0].params, expected.backbones[0].params)
    jax.tree.map(np.testing.assert_array_equal, found.backbones[0].batch_stats, expected.backbones[0].batch_stats)
    assert found.backbones[0].origin.startswith("whole model of file tiny.safetensors, ")
    (tiny,) = starting_backbones(with_checkpoints(make_tiny_config(), tiny=str(file)), "")
    assert tiny.origin.startswith("file tiny.safetensors, ")


def test_whole_model_of_another_form_is_refused(run, make_tiny_config, data, tmp_path):
    def refuses(message, classes=data.class_names, **values):
        config = make_tiny_config()
        config.init_from = str(run[0])
        config.update_from_flattened_dict(values.pop("changed", {}))
        with pytest.raises(InputError, match=message):
            starting_point(with_checkpoints(config, **values), "", classes)

    refuses(r"the networks \('tiny',\), expected \('tiny', 'mini'\)", changed={"model.backbones": ("tiny", "mini")})
    refuses(r"hidden_units \(16,\), expected \(8,\)", changed={"model.hidden_units": (8,)})
    refuses("pooling 'avg', expected 'max'", changed={"model.pooling": "max"})
    refuses("the classes .*, expected .'a', 'b'.", classes=("a", "b"))
    refuses("no such folder", changed={"init_from": str(tmp_path / "nowhere")})
    refuses("zoo:nowhere: no such model, expected one of zoo:", changed={"init_from": "zoo:nowhere"})
    refuses(r"backbone_checkpoints\.tiny would have no effect", tiny=str(run[0]))


def test_what_does_not_fit_is_refused(run, make_tiny_config, tmp_path):
    workdir, _ = run

    def refuses(message, config):
        with pytest.raises(InputError, match=message):
            starting_backbones(config, "")

    config = hybrid_config(make_tiny_config, tiny=str(workdir))
    config.init = "checkpoints"
    refuses("no checkpoint of mini; give .*--config.backbone_checkpoints.mini=DIR", config)
    refuses("mini=.*: holds tiny, expected mini", hybrid_config(make_tiny_config, mini=str(workdir)))
    refuses("the network has no mini, only tiny", with_checkpoints(make_tiny_config(), mini=str(workdir)))
    refuses("tiny=.*no such folder", with_checkpoints(make_tiny_config(), tiny=str(tmp_path / "nowhere")))
    larger = with_checkpoints(make_tiny_config(), tiny=str(workdir))
    larger.model.input_size = 48
    refuses("trained on images of 32 pixels, expected 48", larger)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (("**: train",), []),
        (("classifier/**: train", "backbones/**: freeze"), ["2 of its 2"]),
        (("backbones/*/stem/**: freeze", "**: train"), ["1 of its 2"]),
        (("backbones/**: train from epoch 2", "**: train"), []),
    ],
)
def test_a_backbone_that_stays_random_is_told(rows, told, tiny_backbone, mini_backbone):
    leaf = np.zeros(3)
    params = {
        "backbones": {name: {"stem": {"kernel": leaf}, "top": {"kernel": leaf}} for name in ("tiny", "mini")},
        "classifier": {"logits": {"kernel": leaf}},
    }
    backbones = [
        InitialBackbone(tiny_backbone, None, None, "scratch"),
        InitialBackbone(mini_backbone, None, None, "weights of another day"),
    ]
    notices = random_and_frozen(backbones, resolve(rows, 2, params))
    assert len(notices) == len(told)
    for notice, part in zip(notices, told, strict=True):
        assert notice.startswith(f"tiny starts from scratch and {part} parameters are frozen: ")
