//! Commits that must not pass: one valid signed commit each, with one thing wrong.
