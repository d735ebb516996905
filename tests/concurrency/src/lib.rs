//! What threads of the relay share, in every order in which they may take their turns: the ring and who
//! sleeps (`firehose`), the sequencer's inbox (`sequencer`), the terms of a host (`host`), and the stop. The sources are the crate's own;
//! loom tries the orders, and what each thread may see of what the others have written.
//!
//! A model ends when all of its threads have ended: who waits for what never comes fails it, too.
#![allow(dead_code, reason = "the included sources are used in parts")]

mod firehose;
mod host;
mod limits;
mod metrics;
mod sequencer;
mod store;
mod sync;
mod threads;

pub use firehose::models as streams;
pub use host::models as hosts;
pub use sequencer::models as inboxes;

/// Tries every order with at most `preemptions` turns that are taken from a thread which could go on, and
/// with both answers where a `select!` has two.
fn every_order(preemptions: usize, model: fn()) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ORDERS: AtomicUsize = AtomicUsize::new(0);
    // One at a time: what is preferred is the same for all threads.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    ORDERS.store(0, Ordering::Relaxed);
    for second in [false, true] {
        crossbeam_channel::PREFERS_SECOND.store(second, Ordering::Relaxed);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.max_branches = 10_000;
        builder.check(move || {
            ORDERS.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }
    println!("{} orders", ORDERS.load(Ordering::Relaxed));
}
