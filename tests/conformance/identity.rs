//! Identity events and keys that change.
