//! What holds while everything around the relay fails.
