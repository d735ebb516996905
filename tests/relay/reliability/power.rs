//! Losses of power: the process ends, and with it everything on its disk that was not synced.

use std::{io::Write, time::Duration};

use zlay::crash::Point;

use super::{
    Options,
    disk::{Edge, Survival},
    life::{Death, Life, Place},
    mount::Disk,
};
use crate::{
    site::{Relay, Site},
    subscriber::Subscriber,
};

/// A disk that forgets; none where this machine can have none, which is said.
fn disk() -> Option<Disk> {
    match Disk::new() {
        Ok(disk) => Some(disk),
        Err(error) => {
            // Past the test harness, which shows nothing of a test that passes.
            let what = format!(
                "SKIPPED: a loss of power needs a file system of its own, with /dev/fuse and the right \
                 to mount it: {error}\n"
            );
            std::io::stderr().write_all(what.as_bytes()).unwrap();
            None
        }
    }
}

/// Losses of all kinds, so many of them.
fn losses(count: usize, rng: &mut fastrand::Rng, points: &[Point]) -> Vec<Death> {
    let edge = |rng: &mut fastrand::Rng| match rng.bool() {
        true => Edge::Before,
        false => Edge::After,
    };
    let mut points = points.iter().cycle();
    (0..count)
        .map(|n| match n % 5 {
            0 | 3 => Death::AtSync(rng.u64(0..120), edge(rng)),
            1 => Death::UnderLoad(rng.usize(1..120)),
            2 => {
                let often = |point: &&Point| point.name().starts_with("batch.");
                let point = points.next().unwrap();
                let pass = if often(&point) { rng.u64(1..60) } else { 1 };
                Death::At(*point, pass)
            }
            _ => Death::Early(Duration::from_millis(rng.u64(1..500))),
        })
        .collect()
}

/// Points before a loss; the window is too small for the last ones in the beginning.
const POINTS: [Point; 12] = [
    Point::BatchWritten,
    Point::CloseMarked,
    Point::PublishAfter,
    Point::StoreRecovered,
    Point::TakeDownAfter,
    Point::BatchBefore,
    Point::CloseFlushed,
    Point::MirrorAfter,
    Point::SetTermsAfter,
    Point::RetentionMarked,
    Point::FreeBefore,
    Point::FreeAfter,
];

/// A few losses, of which nobody notices anything.
#[test]
fn a_loss_of_power_loses_nothing_that_was_published() {
    let Some(disk) = disk() else { return };
    let mut rng = fastrand::Rng::new();
    let place = Place {
        disk: Some(disk),
        ..Place::default()
    };
    let deaths = losses(6, &mut rng, &POINTS[..2]);
    Life::new(rng.u64(..), place).live(&deaths);
}

/// The promise of `RELAY_FSYNC=off`, which is less: what was published last may be gone, and no seq is
/// given twice. That something is gone shows that the disk forgets.
#[test]
fn without_syncs_a_loss_of_power_costs_events_and_no_seq_is_given_twice() {
    let Some(disk) = disk() else { return };
    let mut rng = fastrand::Rng::new();
    let lost = without_syncs(disk, &[60, 60, 60].map(Death::UnderLoad), rng.u64(..));
    assert!(lost > 0, "a disk that forgets nothing shows nothing");
}

fn without_syncs(disk: Disk, deaths: &[Death], seed: u64) -> usize {
    let place = Place {
        disk: Some(disk),
        forgets: true,
        ..Place::default()
    };
    Life::new(seed, place).live(deaths).1
}

/// The power goes while a data directory is made, once with each sync of it: whatever is left of it is
/// where the next start begins.
fn losses_of_beginnings(every: u64) -> Option<usize> {
    let mut rng = fastrand::Rng::with_seed(every);
    let mut losses = 0;
    for edge in [Edge::Before, Edge::After] {
        for survival in [Survival::Nothing, Survival::Prefix] {
            let mut count = rng.u64(0..every);
            loop {
                let mut disk = disk()?;
                disk.cut_at(count, edge, None);
                let mut site = Site::new(1);
                let data = disk.data().to_str().unwrap().to_owned();
                site.variables.push(("RELAY_DATA_DIR", data));
                let mut account = site.account(0);
                // It is told that a sync has failed, and ends, or it is through.
                let began = Relay::launch(site.command());
                let is_through = !disk.has_cut();
                disk.cut();
                drop(began);
                disk.come_back(survival, &mut rng);
                let relay = site.start();
                assert_eq!(relay.request_crawl(site.network.host(0).name()).0, 200);
                let mut subscriber = Subscriber::from_the_beginning(&relay);
                subscriber.expect(&[&site.publish_post(&mut account)]);
                drop(relay);
                losses += 1;
                if is_through {
                    break;
                }
                count += every;
            }
        }
    }
    Some(losses)
}

#[test]
fn a_loss_of_power_while_a_data_directory_is_made_is_made_good() {
    losses_of_beginnings(12);
}

/// `just crashes`: at every sync.
#[test]
#[ignore = "takes minutes: just crashes"]
fn crashes_with_losses_of_power_at_beginnings() {
    let losses = losses_of_beginnings(1);
    println!("beginnings: {losses:?} losses of power");
}

/// `just crashes`: as many losses as are asked for, on one disk.
#[test]
#[ignore = "takes minutes: just crashes"]
fn crashes_with_losses_of_power() {
    let Some(disk) = disk() else { return };
    let options = Options::read();
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let place = Place {
        disk: Some(disk),
        ..Place::default()
    };
    let deaths = losses(options.losses, &mut rng, &POINTS);
    let (tally, _) = Life::new(options.seed, place).live(&deaths);
    tally.print("losses of power");
}

/// `just crashes`: the same without syncs.
#[test]
#[ignore = "takes minutes: just crashes"]
fn crashes_with_losses_of_power_without_syncs() {
    let Some(disk) = disk() else { return };
    let options = Options::read();
    let count = options.losses.div_ceil(4);
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let deaths: Vec<Death> = (0..count)
        .map(|_| Death::UnderLoad(rng.usize(20..120)))
        .collect();
    let lost = without_syncs(disk, &deaths, options.seed);
    println!("without syncs: {count} losses of power have cost {lost} published events");
    assert!(lost > 0, "a disk that forgets nothing shows nothing");
}
