//! Commits that must be dropped. Each is the account's next valid commit with exactly one thing
//! changed, put together by an encoder that is not the relay's; the same commit unchanged passes,
//! and after each one that was dropped the account goes on from where it was.

mod car;
mod forgery;
mod fuzz;
mod message;
mod node;
mod object;
mod ops;
mod proof;
mod rev;
mod shape;
