"""Engines: each turns token ids into a stream of pieces behind the Engine protocol of models/types."""
