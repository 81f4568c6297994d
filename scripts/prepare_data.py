"""The command of fer_jax/commands/prepare_data.py."""

from fer_jax.commands.prepare_data import main

if __name__ == "__main__":
    main()
