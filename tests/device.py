"""The device on which the tests' trainers work: the CPU, unless a machine with a GPU is told otherwise."""

import os

# `VAEVAR_TEST_ACCELERATOR=gpu make test` runs the same tests there, exact resumes among them.
DEVICE = os.environ.get("VAEVAR_TEST_ACCELERATOR", "cpu")
