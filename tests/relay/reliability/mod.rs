//! What the relay promises when it is killed, and when the power goes: no accepted event is lost, none is
//! sent under two seqs, no seq is given twice, and what anybody was sent is what everybody is sent later.
//!
//! [`life`] kills a relay over and over on one data directory, at random and at every point of
//! [`zlay::crash`], under [`load`] and with an [`operator`] who decides. [`power`] takes away everything that
//! was not synced, by a file system of its own ([`disk`]). The long forms are `just crashes`.

mod births;
mod checks;
mod disk;
mod ledger;
mod life;
mod load;
mod mount;
mod operator;
mod power;
mod witness;

use std::collections::BTreeMap;

use zlay::crash::Point;

/// What the long forms are told, in `ZLAY_CRASHES`: `--kills N --losses N --seed N`.
struct Options {
    /// How often a process is killed in one life.
    kills: usize,
    /// How often a relay ends on a disk that forgets: four times of five with the power.
    losses: usize,
    seed: u64,
}

impl Options {
    fn read() -> Options {
        let text = std::env::var("ZLAY_CRASHES").unwrap_or_default();
        let mut options = Options {
            kills: 220,
            losses: 80,
            seed: 1,
        };
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse::<u64>().ok());
            let value = value.unwrap_or_else(|| panic!("{word} needs a number"));
            match word {
                "--kills" => options.kills = value as usize,
                "--losses" => options.losses = value as usize,
                "--seed" => options.seed = value,
                other => panic!("{other} is none of --kills, --losses and --seed"),
            }
        }
        options
    }
}

/// How a process ended, and how often.
#[derive(Default)]
struct Tally(BTreeMap<String, usize>);

impl Tally {
    fn add(&mut self, how: &str) {
        *self.0.entry(how.to_owned()).or_default() += 1;
    }

    fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Points at which nobody was killed.
    fn lacks(&self, points: &[Point]) -> Vec<&'static str> {
        let names = points.iter().map(|point| point.name());
        names.filter(|name| !self.0.contains_key(*name)).collect()
    }

    fn print(&self, title: &str) {
        println!("{title}: {} kills", self.total());
        for (how, count) in &self.0 {
            println!("  {count:4} {how}");
        }
    }
}
