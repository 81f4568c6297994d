"""The command of fer_jax/commands/reproduce_paper.py."""

from fer_jax.commands.reproduce_paper import main

if __name__ == "__main__":
    main()
