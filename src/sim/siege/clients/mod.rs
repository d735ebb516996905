//! Subscribers and other clients that are up to no good. Each attack is a `Manner` that a crowd of
//! connections has at once, from as many addresses; the one thread that drives them stands back, as the
//! processor of who attacks from elsewhere would not be taken from the relay.

mod crowd;
mod manners;
mod scans;

use self::crowd::Crowd;
use super::attack::Attack;

/// Every attack of clients. How many there are of each follows from the relay's limits, not from the
/// number of attackers: below them there is nothing to be seen.
pub(super) fn all(_attackers: usize) -> Vec<Box<dyn Attack>> {
    let mut all: Vec<Box<dyn Attack>> = vec![Box::new(scans::Scans::default())];
    all.extend(manners::all().into_iter().map(|manner| {
        let attack: Box<dyn Attack> = Box::new(Crowd::new(manner));
        attack
    }));
    all
}
