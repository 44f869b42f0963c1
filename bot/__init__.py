"""Encore's services, its composition root and the edge to Discord."""
