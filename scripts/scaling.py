"""The command of fer_jax/commands/scaling.py."""

from fer_jax.commands.scaling import main

if __name__ == "__main__":
    main()
