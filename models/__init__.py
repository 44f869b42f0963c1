"""Language models: prompts, engines and (at night) learning. Knows nothing of Discord or SQLite."""
