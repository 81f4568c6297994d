"""The command of fer_jax/commands/predict.py."""

import sys

from fer_jax.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
