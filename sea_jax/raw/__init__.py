"""From tables to arrays: what happens to data before they are a bundle."""
