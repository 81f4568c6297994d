"""A recipe for fine-tuning as it is practised today, for the configs in `configs/strong/`."""

from ml_collections import ConfigDict


def fine_tuning_recipe(config: ConfigDict) -> None:
    """Set in `config` what differs from the paper's Table 1; the networks and the input size stay.

    Common choices for ImageNet networks that are fine-tuned on some ten thousand images, not tuned on FER2013: AdamW
    with warm-up and cosine, a rate for the pretrained backbones well below that of the fresh classifier, label
    smoothing, random erasing, the averaged model, and a face and its mirror image judged together.
    """
    config.train.batch_size = 64
    config.train.epochs = 50
    config.train.parameters = ("classifier/**: train", "backbones/**: train at 0.2")
    config.train.label_smoothing = 0.1
    # About two epochs of FER2013.
    config.train.ema_decay = 0.999
    config.augment.random_erasing = 0.25
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.weight_decay = 0.01
    config.optimizer.gradient_clip_norm = 1.0
    config.eval.flip = True
