//! `howdah-model`: explores the model exhaustively, simulates it from seeds, and tells a run again.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use howdah_model::{Faults, Settings, Sync, explore, retell, simulate};

/// Lets the machine look for a way to break the promises of `docs/safety.md`.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Which world.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Kind {
    /// In synchronous mode.
    #[arg(long)]
    sync: bool,
    /// In quorum mode.
    #[arg(long, conflicts_with = "sync")]
    quorum: bool,
    /// With both standbys synchronous.
    #[arg(long, conflicts_with_all = ["sync", "quorum"])]
    both: bool,
    /// In failsafe mode, with a store that is out of reach at times.
    #[arg(long)]
    failsafe: bool,
    /// Only faults that promises rest on: a store that is out of reach, processes that die, agents that freeze.
    #[arg(long, requires = "failsafe", conflicts_with = "of_requests")]
    of_promises: bool,
    /// With Kubernetes as the store, not etcd.
    #[arg(long)]
    kubernetes: bool,
    /// Beginning without a cluster (on etcd).
    #[arg(long, conflicts_with = "kubernetes")]
    bootstrap: bool,
    /// Only what users and operators do in order: switchovers, restarts, members that end and come back.
    #[arg(long)]
    of_requests: bool,
    /// On machines with a watchdog device: agent and guard may freeze together in any mode.
    #[arg(long)]
    watchdog: bool,
}

impl Kind {
    fn commits(self) -> Sync {
        match (self.sync, self.both, self.quorum) {
            (true, _, _) => Sync::One,
            (_, true, _) => Sync::Both,
            (_, _, true) => Sync::Quorum,
            (false, false, false) => Sync::Off,
        }
    }

    fn settings(self) -> anyhow::Result<Settings> {
        let settings = Settings::new(self.commits(), self.kubernetes)?;
        let mut settings = if self.failsafe {
            settings.in_failsafe_mode()
        } else {
            settings
        };
        settings.bootstrap = self.bootstrap;
        if self.watchdog {
            settings = settings.with_watchdogs();
            settings.faults.both_freeze = true;
        }
        Ok(settings)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every placement of a few faults.
    Explore {
        /// Faults at most.
        #[arg(long, default_value_t = 1)]
        faults: u8,
        /// Only faults that decide whether commits wait: busy checkpointers, members that are cut off.
        #[arg(long)]
        of_commits: bool,
        #[command(flatten)]
        world: Kind,
    },
    /// Many faults by chance, over a longer time.
    Simulate {
        /// Runs.
        #[arg(long, default_value_t = 2000)]
        runs: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        world: Kind,
    },
    /// Look in all ways, in both modes, with both stores, until something is found: for planted faults.
    Hunt,
    /// Tell one simulated run again, with the reasons of every decision.
    Replay {
        /// Its seed.
        seed: u64,
        #[command(flatten)]
        world: Kind,
    },
}

fn main() -> ExitCode {
    match run(&Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command) -> anyhow::Result<bool> {
    match command {
        Command::Explore {
            faults,
            of_commits,
            world,
        } => {
            let mut settings = world.settings()?;
            settings.budget = *faults;
            if *of_commits {
                settings.faults = Faults::of_commits();
            }
            // Beside every other event these lead to many more ways; `--of-requests` has them, and so has every simulation.
            settings.faults.ends &= *faults < 2;
            if world.of_requests {
                settings.faults = Faults::of_requests();
            }
            if world.of_promises {
                settings.faults = Faults::of_promises();
            }
            let found = explore(&settings)?;
            println!(
                "{} states, {} paths, up to {faults} faults, {}",
                found.states,
                found.paths,
                mode(*world)
            );
            if let Some((path, violation)) = &found.violation {
                for line in retell(&settings, path)? {
                    println!("{line}");
                }
                println!("FOUND: {violation}");
            }
            Ok(found.violation.is_none())
        }
        Command::Simulate { runs, seed, world } => {
            let settings = simulation(*world)?;
            let mut faults = 0;
            for seed in *seed..*seed + *runs {
                let result = simulate(&settings, seed, false)?;
                faults += result.faults;
                if let Some(violation) = result.violation {
                    tell(&settings, seed)?;
                    println!("FOUND at seed {seed}: {violation}");
                    let sync = match world.commits() {
                        Sync::Off => "",
                        Sync::One => " --sync",
                        Sync::Both => " --both",
                        Sync::Quorum => " --quorum",
                    };
                    let store = if world.kubernetes { " --kubernetes" } else { "" };
                    let requests = if world.of_requests { " --of-requests" } else { "" };
                    let begin = if world.bootstrap { " --bootstrap" } else { "" };
                    let failsafe = match (world.failsafe, world.of_promises) {
                        (_, true) => " --failsafe --of-promises",
                        (true, false) => " --failsafe",
                        (false, false) => "",
                    };
                    let watchdog = if world.watchdog { " --watchdog" } else { "" };
                    println!(
                        "tell it again: howdah-model replay {seed}{sync}{failsafe}{store}{begin}{requests}{watchdog}"
                    );
                    return Ok(false);
                }
            }
            println!("{runs} runs, {faults} faults, {}", mode(*world));
            Ok(true)
        }
        Command::Hunt => hunt(),
        Command::Replay { seed, world } => {
            tell(&simulation(*world)?, *seed)?;
            Ok(true)
        }
    }
}

/// Runs of one world in a turn of the hunt, and turns.
const TURN: u64 = 500;
const TURNS: u64 = 8;

/// Looks everywhere in small turns: a fault that only the last world has is found as soon as one of the first.
fn hunt() -> anyhow::Result<bool> {
    let kind = |sync, kubernetes, bootstrap, of_requests| Kind {
        sync,
        quorum: false,
        both: false,
        failsafe: false,
        of_promises: false,
        kubernetes,
        bootstrap,
        of_requests,
        watchdog: false,
    };
    let worlds = [
        kind(false, false, false, false),
        kind(true, false, false, false),
        kind(false, true, false, false),
        kind(true, true, false, false),
        kind(false, false, true, false),
        kind(false, false, false, true),
        Kind {
            quorum: true,
            ..kind(false, false, false, false)
        },
        Kind {
            both: true,
            ..kind(false, false, false, false)
        },
        Kind {
            failsafe: true,
            ..kind(false, false, false, false)
        },
        Kind {
            failsafe: true,
            ..kind(false, true, false, false)
        },
        Kind {
            failsafe: true,
            ..kind(true, false, false, false)
        },
        Kind {
            failsafe: true,
            of_promises: true,
            ..kind(false, false, false, false)
        },
        Kind {
            watchdog: true,
            ..kind(false, false, false, false)
        },
        Kind {
            watchdog: true,
            ..kind(false, true, false, false)
        },
    ];
    for world in worlds {
        let one = Command::Explore {
            faults: 1,
            of_commits: false,
            world,
        };
        if !run(&one)? {
            return Ok(false);
        }
    }
    for turn in 0..TURNS {
        for world in worlds {
            // Of what is done in order there are fewer combinations.
            if world.of_requests && turn >= TURNS / 2 {
                continue;
            }
            let runs = Command::Simulate {
                runs: TURN,
                seed: turn * TURN + 1,
                world,
            };
            if !run(&runs)? {
                return Ok(false);
            }
        }
        let commits = Command::Explore {
            faults: 2,
            of_commits: true,
            world: kind(true, false, false, false),
        };
        if turn == 0 && !run(&commits)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Long runs with all faults. Agent and guard may freeze together only where that is covered.
fn simulation(world: Kind) -> anyhow::Result<Settings> {
    let mut settings = world.settings()?;
    settings.faults.both_freeze = world.commits().is_on() || world.watchdog;
    settings.budget = 12;
    if world.of_requests {
        settings.faults = Faults::of_requests();
        settings.budget = 6;
    }
    if world.of_promises {
        settings.faults = Faults::of_promises();
    }
    settings.calm_after = 160;
    settings.end = 260;
    settings.hang_after = 5;
    settings.commits = 300;
    settings.commit_every = 1;
    Ok(settings)
}

fn tell(settings: &Settings, seed: u64) -> anyhow::Result<()> {
    let result = simulate(settings, seed, true)?;
    for line in &result.story {
        println!("{line}");
    }
    Ok(())
}

fn mode(world: Kind) -> String {
    let commits = match world.commits() {
        Sync::Off => "asynchronous",
        Sync::One => "synchronous",
        Sync::Both => "two synchronous",
        Sync::Quorum => "quorum",
    };
    let store = if world.kubernetes { "Kubernetes" } else { "etcd" };
    let begin = if world.bootstrap { ", bootstrapped" } else { "" };
    let store = if world.failsafe {
        format!("{store}, failsafe")
    } else {
        store.to_owned()
    };
    let faults = match (world.of_requests, world.of_promises) {
        (true, _) => ", in order",
        (_, true) => ", what promises rest on",
        (false, false) => "",
    };
    let watchdog = if world.watchdog { ", watchdogs" } else { "" };
    format!("{commits}, {store}{begin}{faults}{watchdog}")
}
