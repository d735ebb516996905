//! Commits that must pass, unusual as they are.
