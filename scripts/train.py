"""The command of fer_jax/commands/train.py."""

from fer_jax.commands.train import main

if __name__ == "__main__":
    main()
