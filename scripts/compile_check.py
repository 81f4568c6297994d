"""The command of fer_jax/commands/compile_check.py."""

from fer_jax.commands.compile_check import main

if __name__ == "__main__":
    main()
