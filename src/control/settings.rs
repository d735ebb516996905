//! What the operator can change while the relay runs, and what is kept of it.
