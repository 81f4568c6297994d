"""The command of fer_jax/commands/compare.py."""

from fer_jax.commands.compare import main

if __name__ == "__main__":
    main()
