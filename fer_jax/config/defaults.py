"""The configuration of a run: the paper's Table 1 as typed, locked defaults, and the checks on what users change.

Each section is declared once, key by key: the default, what the key may hold, and what it means.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fer_jax.augment.options import RANGES, Augmentation
from fer_jax.config.class_weights import EXPECTED, parse_class_weights
from fer_jax.config.keys import SWITCH, Key, Rule, none_or, number, one_of
from fer_jax.data.classes import CLASSES
from fer_jax.data.ferplus import VOTE_LABELS
from fer_jax.data.input_choice import INPUTS
from fer_jax.data.twins import DROPS
from fer_jax.errors import InputError
from fer_jax.models.backbones import BACKBONES
from fer_jax.models.convolutions.lowering import LOWERING_FORMS, is_lowering
from fer_jax.models.spec import POOLINGS
from fer_jax.params.trainable import EVERYTHING, parse_rows

RUN = {
    "seed": Key(0, number(0, 2**32 - 1), "Of the initial weights, the order of the images and every random choice."),
    "init": Key(
        "keras",
        Rule("keras, torchvision, timm:NAME, scratch, checkpoints, or the path of a converted file", bool),
        "What the backbones start from.",
    ),
    "init_from": Key(
        None,
        none_or(str, "the folder of a run or of a checkpoint, a model's file, or zoo:NAME", bool),
        "The trained model of the same network that a new run starts from whole, with its classifier, in place of "
        "`init`: a run (its best epoch), RUN/checkpoints/last, a model's file, or a shipped one as zoo:NAME.",
        kind=str,
    ),
}

BACKBONE_CHECKPOINTS = {
    name: Key(
        None,
        none_or(str, "the folder of a run or of a checkpoint, a model's file, or zoo:NAME", bool),
        f"The run, checkpoint, model's file or zoo:NAME that {name} starts from in place of `init`.",
        kind=str,
    )
    for name in BACKBONES
}

DATA = {
    "validation_fraction": Key(
        None,
        none_or(float, "a number above 0 and below 1", lambda value: 0 < value < 1),
        "The fraction of each class of `train` that becomes `validation` in data that have none.",
        kind=float,
    ),
    "image_size": Key(
        None,
        none_or(int, "a number from 8 to 1024", lambda value: 8 <= value <= 1024),
        "Height and width in pixels that the images of a folder are brought to; None: by the sizes of the files.",
        kind=int,
    ),
    "classes": Key(
        "auto",
        one_of(CLASSES),
        "What the folders of an image folder stand for; `folders`: their names as they are, even those of expressions; "
        "`with_contempt`: the seven expressions and contempt as the eighth, in other data too.",
    ),
    "class_names": Key(
        None,
        none_or(str, "names such as surprise,fear,... or 1=surprise,2=fear,...", bool),
        "What the classes are called whose folders or labels are numbers, or words of another language: a name for "
        "each in their order, or LABEL=NAME for some.",
        kind=str,
    ),
    "skip_damaged": Key(
        False,
        SWITCH,
        "Passes over files and rows that are damaged or not to be used, and lists them, in place of ending.",
    ),
    "input": Key(
        "auto",
        one_of(INPUTS),
        "Whether all images lie on the devices or are read during training; `auto`: by their size.",
    ),
    "workers": Key(
        0,
        number(0, 256),
        "Processes that decode the images of a streamed input; 0: threads of the training process.",
    ),
    "votes": Key(
        None,
        none_or(str, "the path of FER+'s votes, fer2013new.csv", bool),
        "The votes of ten people on each image of FER2013, to take the labels from in place of its own.",
        kind=str,
    ),
    "vote_labels": Key(
        "distribution",
        one_of(VOTE_LABELS),
        "Whether training aims at the shares of the votes or, as validation and test do, at the class with most.",
    ),
    "vote_classes": Key(
        8,
        Rule("7 or 8", lambda value: value in (7, 8)),
        "The seven classes of FER2013, or contempt as well; images that lose their label by it are left out.",
    ),
    "drop_twins": Key(
        "none",
        one_of(DROPS),
        "Leaves out of training what is twin to an image of validation or test: alike to the pixel, or also `near`, "
        "the same photograph otherwise. That is known of FER2013, and of what `twins` lists.",
    ),
    "twins": Key(
        None,
        none_or(str, "the path of a list of twins by fer-jax audit", bool),
        "The near twins in data that are not FER2013, for `drop_twins`.",
        kind=str,
    ),
}


def _augmentation(name: str, meaning: str) -> Key:
    """Return a field of `Augmentation`, which has the default and judges values itself."""
    expected, _ = RANGES[name]
    return Key(getattr(Augmentation, name), Rule(expected, lambda value: Augmentation(**{name: value})), meaning)


# The paper does not state the ranges; these are common choices.
AUGMENT = {
    "horizontal_flip": _augmentation("horizontal_flip", "Mirrors an image with probability 1/2."),
    "rotation_range": _augmentation("rotation_range", "Degrees to either side."),
    "width_shift_range": _augmentation("width_shift_range", "A shift along the columns, to either side."),
    "height_shift_range": _augmentation("height_shift_range", "A shift along the rows, to either side."),
    "zoom_range": _augmentation("zoom_range", "Each axis is scaled by a factor from 1 - zoom_range to 1 + zoom_range."),
    "fill_mode": _augmentation("fill_mode", "What lies beyond the border: the closest pixel of the border."),
    "random_erasing": _augmentation("random_erasing", "The probability that a rectangle of the image is erased."),
}

MODEL = {
    "backbones": Key(
        ("efficientnet_b0",),
        Rule(
            "one or more different names out of " + ", ".join(BACKBONES),
            lambda names: names and all(name in tuple(BACKBONES) for name in names) and len(set(names)) == len(names),
        ),
        "The networks whose features, side by side, the classifier sees.",
    ),
    "input_size": Key(200, number(32, 1024), "Height and width in pixels that the network sees."),
    # The paper does not state the pooling, nor the decay of the running statistics: these are the defaults of Keras.
    "pooling": Key("avg", one_of(POOLINGS), "What makes a vector of a backbone's last feature map."),
    "hidden_units": Key(
        (4096, 1024),
        Rule(
            "integers of at least 1, such as (4096, 1024)",
            lambda values: all(type(units) is int and units >= 1 for units in values),
        ),
        "The widths of the classifier's hidden layers; (): logits straight from the features.",
    ),
    "dropout": Key(0.2, number(0, 1, high_open=True), "The probability of dropout after each hidden layer."),
    "drop_path": Key(
        0.2,
        number(0, 1, high_open=True),
        "In training, residual block b of the n of an EfficientNet is skipped with b / n of this probability.",
    ),
    "batch_norm_momentum": Key(
        None,
        none_or(float, "a number from 0 to below 1", lambda value: 0 <= value < 1),
        "The decay of the running statistics of batch normalisation; None: that of each backbone in Keras, 0.999 for "
        "MobileNetV2 and 0.99 for EfficientNets.",
        kind=float,
    ),
    "depthwise_lowering": Key(
        "auto",
        Rule(LOWERING_FORMS, lambda value: value == "auto" or is_lowering(value)),
        "How depthwise convolutions are computed.",
    ),
    "dtype": Key("float32", one_of(("float32", "bfloat16")), "What the network computes in; parameters are float32."),
    "rematerialise": Key(
        False,
        SWITCH,
        "Computes each block again in the backward pass, for batches that would not fit otherwise.",
    ),
}

TRAIN = {
    "batch_size": Key(32, number(1), "Images a step, on all devices together."),
    "epochs": Key(100, number(1), "Passes over the training images."),
    "parameters": Key(
        EVERYTHING,
        # `parse_rows`, which needs to know the epochs, judges each row and says what is wrong with it.
        Rule("one or more rows such as '**: train'", lambda rows: isinstance(rows, tuple)),
        "What trains, when and how fast: the rows of `fer_jax.params.trainable`.",
    ),
    "cached_views": Key(
        0,
        number(0),
        "0: every step augments and runs the backbones anew, as in the paper. K: frozen backbones see K views of an "
        "image before the first step, and their features are kept.",
    ),
    "class_weights": Key(
        None,
        # `parse_class_weights` says what is wrong.
        Rule(EXPECTED, lambda value: parse_class_weights(value) or value is None),
        "How much the training loss of an example counts, by its label, scaled to a mean of 1 over the training "
        "images; `balanced`: all classes together equally. Validation and test are never weighted.",
        kind=object,
    ),
    "label_smoothing": Key(
        0.0, number(0, 1, high_open=True), "The part of a label that is spread evenly over all classes."
    ),
    "mixup_alpha": Key(0.0, number(0), "Of the beta distribution that pairs of images are mixed by; 0: none are."),
    "ema_decay": Key(
        0.0, number(0, 1, high_open=True), "The decay of the averaged model that is evaluated and kept; 0: no average."
    ),
    "early_stopping_patience": Key(
        0,
        number(0),
        "Epochs without a better validation accuracy after which a run is finished; 0: it takes all its epochs. The "
        "best epoch is what evaluation takes anyway.",
    ),
    "log_every_steps": Key(50, number(1), "Steps between two lines of the metrics."),
    "checkpoint_every_steps": Key(
        0,
        number(0),
        "Steps between checkpoints within an epoch, for machines that vanish without a signal, and long epochs; 0: at "
        "the end of each epoch, and on a signal, alone.",
    ),
    "watchdog_minutes": Key(30.0, number(0), "Without any progress for so long, a run ends with an error; 0: never."),
}

OPTIMIZER = {
    "name": Key(
        "adam",
        one_of(("adam", "sgd")),
        "`adam` (with `weight_decay` AdamW), or `sgd` with Nesterov momentum, whose learning rate is larger, such as "
        "0.01.",
    ),
    "learning_rate": Key(1e-3, number(0, low_open=True), "The optimizer's; where it is scheduled, the highest."),
    "momentum": Key(0.9, number(0, 1, high_open=True), "Of `sgd`: the decay of its velocity; 0: none."),
    "schedule": Key(
        "constant",
        one_of(("constant", "cosine")),
        "The learning rate after the warm-up: `cosine` brings it to 0 at the end.",
    ),
    "warmup_epochs": Key(0.0, number(0), "Epochs in which the learning rate rises linearly from 0."),
    "weight_decay": Key(
        0.0, number(0), "Decay of the kernels: AdamW's decoupled one, and with `sgd` added to their gradient (L2)."
    ),
    "gradient_clip_norm": Key(0.0, number(0), "The largest global norm of the gradient; 0: it is not clipped."),
}

EVAL = {
    "batch_size": Key(256, number(1), "Images evaluated at once."),
    "flip": Key(False, SWITCH, "Judges an image and its mirror image together."),
    "test_each_epoch": Key(
        False,
        SWITCH,
        "Reports the accuracy on the test split after each epoch, for the paper's protocol; it selects nothing.",
    ),
}

SECTIONS = {
    "": RUN,
    "backbone_checkpoints": BACKBONE_CHECKPOINTS,
    "data": DATA,
    "augment": AUGMENT,
    "model": MODEL,
    "train": TRAIN,
    "optimizer": OPTIMIZER,
    "eval": EVAL,
}
"""The keys of each section by name; those of "" stand at the top."""


def keys() -> dict[str, Key]:
    """Return all keys by their dotted names, in the order of their declaration."""
    return {
        f"{section}.{name}" if section else name: key
        for section, declared in SECTIONS.items()
        for name, key in declared.items()
    }


def default_config() -> ConfigDict:
    """Return Table 1 of the paper for EfficientNetB0, with this project's options at rest."""
    config = ConfigDict()
    for section, declared in SECTIONS.items():
        values = {name: placeholder(key.kind) if key.kind else key.default for name, key in declared.items()}
        if section:
            config[section] = ConfigDict(values)
        else:
            config.update(values)
    return config.lock()


def flatten(config: ConfigDict, section: str = "") -> dict:
    """Return all values of a config by dotted key, in sorted order."""
    flat, known = {}, keys()
    for key, value in sorted(config.items()):
        name = f"{section}{key}"
        if not isinstance(value, ConfigDict):
            flat[name] = value
        elif name in known:  # a dict, as a value
            flat[name] = value.to_dict()
        else:
            flat.update(flatten(value, f"{name}."))
    return flat


def check_config(config: ConfigDict) -> None:
    """Raise `InputError`, naming the key, what it holds and what it may hold, unless every value is possible."""
    flat = flatten(config)
    for name, key in keys().items():
        key.check(name, flat[name])
    parse_rows(config.train.parameters, config.train.epochs)
    if config.optimizer.warmup_epochs >= config.train.epochs:
        raise InputError(
            f"config.optimizer.warmup_epochs={config.optimizer.warmup_epochs:g}: expected fewer than the "
            f"{config.train.epochs} epochs of config.train.epochs"
        )
