"""Weather, observations of it, training samples, and the times of analyses."""

from vaevar.content.codecs import forbid_pickle

# Before anything in here opens a store.
forbid_pickle()
