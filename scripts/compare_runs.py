"""The command of fer_jax/commands/compare_runs.py."""

from fer_jax.commands.compare_runs import main

if __name__ == "__main__":
    main()
