"""Data assimilation with AI weather models: VAE-Var and its rivals in one cycle."""

import os
import sys

__version__ = "0.1.0"

# How long a thread of torch's spins before it sleeps, when it waits for the others. By default it is
# milliseconds, in which it keeps a busy neighbour's process, or the very thread it waits for, off the core.
# The library reads this once, when torch is imported.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# A program of the package, `python -m vaevar....`, whose libraries take seconds to import: Ctrl-C ends it
# with a line. It calls vaevar.scripts.run, which sees to stops from then on.
if sys.argv[:1] == ["-m"]:
    from vaevar.runs.stopping import install

    install(importing=True)
