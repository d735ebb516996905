//! A relay under attack, beside a network that behaves: what hostile hosts and hostile clients do to
//! the delay of everybody else's events, to the relay's memory, and what the relay says of them.
//!
//! Rounds of calm and of attack take turns in one run, so that the two delays that are compared come
//! from the same machine in the same minutes. Every event of the network that behaves is compared
//! with what went in, attack or not.

mod attack;
mod clients;
mod field;
mod hosts;
mod report;
mod rounds;
mod traffic;

use std::{fs, io, path::PathBuf, time::Duration};

use clap::Args;

use self::{attack::Attack, field::Field, report::Report, rounds::Rounds};
use crate::{
    sim::{Config, cli, relay::Launch},
    threads::Stop,
};

/// Whom to attack, and how.
#[derive(Args, Debug)]
pub(super) struct SiegeArgs {
    /// Where all choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The relay's binary; the zlay beside this program when left out.
    #[arg(long, value_name = "FILE")]
    relay_binary: Option<PathBuf>,
    /// A variable of the relay's environment; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = cli::variable)]
    environment: Vec<(String, String)>,
    /// Where the relay's log goes; standard error when left out.
    #[arg(long, value_name = "FILE")]
    relay_log: Option<PathBuf>,
    /// Where the relay keeps its data meanwhile; a temporary directory when left out.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Attacks by name, or by the first part of it; all when left out. `list` says which there are.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How long each round of calm or of attack lasts.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// How often each attack is made, with a round of calm before each and one after the last.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Hosts, or clients, that attack at the same time.
    #[arg(long, default_value_t = 3)]
    attackers: usize,
    /// Hosts that behave.
    #[arg(long, default_value_t = 50)]
    hosts: usize,
    /// Accounts of each of them at the start.
    #[arg(long, default_value_t = 10)]
    accounts: usize,
    /// Events a second of all hosts that behave.
    #[arg(long, default_value_t = 600.0)]
    rate: f64,
    /// An attack may make the 99th percentile of the delay so many times as long.
    #[arg(long, default_value_t = 2.0)]
    ratio_max: f64,
    /// And the relay may hold so many MiB more than in the calm before it.
    #[arg(long, default_value_t = 256.0)]
    rss_max: f64,
    /// What is over one of these bounds, or is not to be seen on the page of the host, is a failure.
    #[arg(long)]
    strict: bool,
    /// Write the table to this file too: JSON where it ends in .json, Markdown otherwise.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Attacks, prints and writes what came of it; false where something is not as promised.
pub(super) fn run(args: &SiegeArgs, stop: &Stop) -> io::Result<bool> {
    let mut attacks = hosts::all(args.attackers);
    attacks.extend(clients::all(args.attackers));
    if args.only.iter().any(|name| name == "list") {
        for attack in &attacks {
            println!("{:24}{}", attack.name(), attack.about());
        }
        return Ok(true);
    }
    let attacks = chosen(attacks, &args.only)?;
    let span = Duration::try_from_secs_f64(args.seconds).map_err(io::Error::other)?;
    let config = Config {
        seed: args.seed,
        hosts: args.hosts,
        ..Config::default()
    };
    let launch = Launch {
        binary: args.relay_binary.clone(),
        command: None,
        stranger: false,
        port: 3000,
        metrics_port: 3001,
        data_dir: None,
        scratch: args.scratch.clone(),
        log: args.relay_log.clone(),
        environment: args.environment.clone(),
    };
    let (field, relay) = Field::start(&config, launch, stop)?;
    let runs_first = field.runs_first;
    let mut rounds = Rounds::start(field, relay, args.accounts, args.rate, stop)?;
    let mut report = Report::new(args, runs_first);
    for attack in attacks {
        eprintln!("{}: {}", attack.name(), attack.about());
        let row = rounds.try_attack(attack, args.rounds, span, stop)?;
        eprintln!("  {}", row.line());
        report.add(row);
        if stop.requested() {
            break;
        }
    }
    report.differences = rounds.finish()?;
    let good = report.judge(args);
    print!("{}", report.text());
    if let Some(file) = &args.out {
        let json = file.extension().is_some_and(|end| end == "json");
        fs::write(file, if json { report.json()? } else { report.text() })?;
        println!("written to {}", file.display());
    }
    Ok(good)
}

/// Those whose name is one of `names` or begins with it.
fn chosen(attacks: Vec<Box<dyn Attack>>, names: &[String]) -> io::Result<Vec<Box<dyn Attack>>> {
    let unknown = |name: &&String| !attacks.iter().any(|a| a.name().starts_with(&***name));
    if let Some(name) = names.iter().find(unknown) {
        let message = format!("there is no attack {name}; see --only list");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| name.starts_with(&**n));
    let attacks = attacks.into_iter();
    Ok(attacks.filter(|attack| wanted(attack.name())).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all() -> Vec<Box<dyn Attack>> {
        let mut all = hosts::all(1);
        all.extend(clients::all(1));
        all
    }

    #[test]
    fn every_attack_has_a_name_of_its_own_and_a_word_about_it() {
        let all = all();
        let names: HashSet<_> = all.iter().map(|attack| attack.name()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|attack| attack.about().len() > 10));
    }

    #[test]
    fn attacks_are_chosen_by_the_beginning_of_their_names() {
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
            let chosen = chosen(all(), &names)?;
            io::Result::Ok(chosen.iter().map(|a| a.name()).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), all().len());
        assert_eq!(names(&["flood-valid"]).unwrap(), ["flood-valid"]);
        assert!(names(&["flood"]).unwrap().contains(&"flood-valid"));
        assert!(names(&["flood", "nothing"]).is_err());
    }
}
