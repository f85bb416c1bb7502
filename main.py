"""vaevar's command line: ``python main.py fit --config configs/vae.yaml``."""

from vaevar.cli import main

if __name__ == "__main__":
    main()
