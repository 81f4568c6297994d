"""The command of fer_jax/commands/evaluate.py."""

from fer_jax.commands.evaluate import main

if __name__ == "__main__":
    main()
