//! The relay as a whole, from outside: the real program as a process of its own between a simulated
//! network and a websocket client that shares no code with it. What a test knows of the relay it
//! has from the firehose, from HTTP, from `/metrics`, or from how the process ends.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../support/admin.rs"]
mod admin;
mod admission;
mod ahead;
mod backfill;
mod clients;
mod console;
mod control;
mod crashes;
mod damage;
mod database;
mod directory;
mod disk;
#[path = "../support/faults.rs"]
mod faults;
mod follower;
mod hostile;
mod hosts;
#[path = "../support/http.rs"]
mod http;
mod lab;
mod lies;
mod limits;
mod log;
mod lookups;
mod memory;
#[path = "../support/mount.rs"]
mod mount;
mod operator;
mod outages;
mod pages;
#[path = "../conformance/plain.rs"]
mod plain;
#[path = "../support/postgres.rs"]
#[expect(dead_code, reason = "the tests of the control store need more of it")]
mod postgres;
mod process;
mod reliability;
#[path = "../support/scripted.rs"]
mod scripted;
mod service;
mod settings;
mod siblings;
#[path = "../support/site.rs"]
mod site;
mod smoke;
mod soak;
#[path = "../support/stage.rs"]
#[expect(dead_code, reason = "the conformance suite needs more of it")]
mod stage;
#[path = "../support/subscriber.rs"]
mod subscriber;
mod top;
