"""The configs that come with the package, and how a command line names them."""

from pathlib import Path

from fer_jax.errors import InputError, nearest
from fer_jax.runtime.user_path import user_path

_PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Return the folder of the configs: inside the package where that is installed, beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def shipped_names() -> list[str]:
    """Return the names of the configs, such as `mobilenet_v2` and `strong/mobilenet_v2`."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py"))


def config_file(text: str) -> Path:
    """Return the file that `--config=text` means: that of this path, or else the shipped config of this name.

    A shipped config is found from any folder by its name, with or without `configs/` before and `.py` behind it.

    Raises:
      InputError: there is neither; with the names of the shipped configs and their folder.
    """
    names = shipped_names()
    known = f"; {shipped_folder()} has {', '.join(names)}"
    path = user_path(text, f"--config={text}:", known)
    if path.is_file():
        return path
    name = text.removeprefix("configs/").removesuffix(".py")
    if name in names:
        return shipped_folder() / f"{name}.py"
    raise InputError(f"--config={text}: no such file, nor a config of this name{known}{nearest(name, names)}")
