"""The command of fer_jax/commands/demo.py."""

import sys

from fer_jax.commands.demo import main

if __name__ == "__main__":
    sys.exit(main())
