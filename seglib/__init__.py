"""seglib: label a face's patch tokens with face parts, keep one part, pool, probe.

Importing the package is cheap on purpose: torch and transformers are loaded by the
functions that need them, so ``seglib preflight`` answers at once on a bare machine.
"""

__version__ = "0.1.0"
