"""The command of fer_jax/commands/sweep.py."""

from fer_jax.commands.sweep import main

if __name__ == "__main__":
    main()
