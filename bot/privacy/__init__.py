"""Members' data: consent, what is held, deletion that reaches the adapters, and how long anything is kept."""
