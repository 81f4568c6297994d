"""The command of fer_jax/commands/audit.py."""

from fer_jax.commands.audit import main

if __name__ == "__main__":
    main()
