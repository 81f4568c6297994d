"""The command of fer_jax/commands/export.py."""

from fer_jax.commands.export import main

if __name__ == "__main__":
    main()
