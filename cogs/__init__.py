"""Discord's edge: one feature, one file; guard, call a service, send."""
