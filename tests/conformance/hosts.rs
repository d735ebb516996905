//! What the relay does as the client of a host.
