"""The command of fer_jax/commands/benchmark.py."""

from fer_jax.commands.benchmark import main

if __name__ == "__main__":
    main()
