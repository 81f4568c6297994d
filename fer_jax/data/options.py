"""How a data set is read: what `config.data` says of it, or what the evaluation of a model asks for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """How an image folder is read, and what the labels of any source stand for.

    Attributes:
      image_size: height and width in pixels to which the images are resized. None: that of the files if they are all
        squares of one size, or else their longest side; at most `input_size`, but 48 pixels are always kept.
      input_size: height and width in pixels of the network's input.
      classes: one of `classes.CLASSES`.
      names: the names of the classes where the source has others: one for each in its order, `surprise,fear,...`, or
        some of them, `1=surprise,2=fear` (`config.data.class_names`).
      input: one of `input_choice.INPUTS`: whether the images are read at once or stay in their files.
      skip_damaged: whether to pass over what cannot be read, with a warning that lists it.
      class_names: to evaluate a model on the data, the model's classes. Then no split is required,
        `validation_fraction` is ignored if there is a validation split, and images of expressions that the model does
        not know are left out.
      unsplit: to evaluate a model, the split that images without one belong to.
      colour: to evaluate a model, whether it was trained on RGB; None: as the files are.
    """

    image_size: int | None = None
    input_size: int = 200
    classes: str = "auto"
    names: str | None = None
    input: str = "auto"
    skip_damaged: bool = False
    class_names: tuple[str, ...] | None = None
    unsplit: str = "test"
    colour: bool | None = None
