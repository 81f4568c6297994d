"""The command of fer_jax/commands/publish.py."""

from fer_jax.commands.publish import main

if __name__ == "__main__":
    main()
