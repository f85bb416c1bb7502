"""The device on which the tests' trainers work: the CPU, unless a machine with a GPU is told otherwise."""

import os

# `VAEVAR_TEST_ACCELERATOR=gpu make test` runs the same tests there, exact resumes among them. Some name the
# CPU themselves: they compare with what they compute there, or bring code that stays there.
DEVICE = os.environ.get("VAEVAR_TEST_ACCELERATOR", "cpu")
