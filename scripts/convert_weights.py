"""The command of fer_jax/commands/convert_weights.py."""

from fer_jax.commands.convert_weights import main

if __name__ == "__main__":
    main()
