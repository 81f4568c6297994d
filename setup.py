"""What pyproject.toml cannot say beside a search for packages: `configs/` is installed as a folder of the package."""

from setuptools import find_packages, setup

CONFIGS = {"fer_jax.configs": "configs", "fer_jax.configs.strong": "configs/strong"}

setup(
    packages=[*find_packages(include=["fer_jax*"]), *CONFIGS],
    package_dir=CONFIGS,
)
