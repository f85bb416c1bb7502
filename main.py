"""vaevar's command line: ``python main.py fit --config configs/vae.yaml``."""

from vaevar.runs.stopping import install

if __name__ == "__main__":
    install(importing=True)  # which takes seconds
    from vaevar.cli import main

    main()
