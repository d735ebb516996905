//! A host's thread that waits for a limit, and the crawler, which sets others.

use std::sync::Arc;

use crossbeam_channel::bounded;
use loom::thread;

use super::{
    quota::{Limits, Span},
    terms::Terms,
};
use crate::every_order;

/// Limits that are taken away while the thread finds out that it has to wait for one: it does not wait for
/// an hour that nobody counts any more.
pub fn who_waits_for_a_limit_hears_of_others() {
    every_order(3, || {
        let limited = Limits::new([None, Some(1), None]);
        let terms = Arc::new(Terms::new(false, &limited));
        let (retry, retried) = bounded(1);
        let host = {
            let terms = terms.clone();
            // As `HostThread::keep_to_limits`, where the limit is never kept.
            thread::spawn(move || {
                let mut waits = false;
                while terms.limits().get(Span::Hour).is_some() {
                    if !waits {
                        waits = true;
                        terms.begin_to_wait();
                        continue;
                    }
                    retried.recv().unwrap();
                }
                if waits {
                    terms.end_to_wait();
                }
            })
        };
        // As `Host::set_terms`, twice: the first of them is still in the way.
        for limits in [limited, Limits::new([None; 3])] {
            if terms.set(false, &limits) {
                let _ = retry.try_send(());
            }
        }
        host.join().unwrap();
    });
}
