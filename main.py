"""The command ``vaevar``, in a clone: ``python main.py fit --config configs/vae.yaml``."""

from vaevar.commands.main import main

if __name__ == "__main__":
    main()
