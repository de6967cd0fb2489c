"""The grid: every (vectorizer, projection, merge, head) on one pair table."""
