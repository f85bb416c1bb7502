"""The command ``vaevar``, in a clone: ``python main.py fit --config configs/vae.yaml``."""

from vaevar.__main__ import main

if __name__ == "__main__":
    main()
