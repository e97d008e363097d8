"""Results as rows, cards and checks; nothing here trains."""
