//! Strikes a cluster with faults, many times, and prints what the acknowledgements say.

use std::process::ExitCode;

use clap::Parser;
use howdah_process_tests::{Tally, is_excused, lab_in, run_fault};
use howdah_testkit::{Fault, Lab, World};

/// Strikes a real cluster with faults and judges every acknowledgement of the writers that ran through them.
///
/// Two members may never acknowledge at the same time; in synchronous mode no acknowledged row may be missing; and after each
/// fault the cluster must be whole by itself, with the same rows on every member.
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each fault.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these faults, by name. [default: all]
    #[arg(long)]
    fault: Vec<String>,
    /// Synchronous mode: nothing may be lost.
    #[arg(long)]
    sync: bool,
    /// Quorum mode, on etcd.
    #[arg(long, conflicts_with_all = ["sandbox", "everywhere"])]
    quorum: bool,
    /// Members of the cluster.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// A cluster from a manifest in a sandbox, its members pods, instead of one on etcd. Its lease is that of manifests.
    #[arg(long, conflicts_with = "ttl")]
    sandbox: bool,
    /// All four worlds one after the other: etcd and pods, asynchronous and synchronous.
    #[arg(long, conflicts_with_all = ["sync", "sandbox"])]
    everywhere: bool,
    /// The lease in seconds (`howdah.ttl`).
    #[arg(long, default_value_t = 8)]
    ttl: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(bad) => {
            eprintln!("{bad} faults broke a promise");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<usize> {
    if let Some(name) = args
        .fault
        .iter()
        .find(|name| !Fault::ALL.iter().any(|fault| fault.name() == **name))
    {
        let names = Fault::ALL.map(Fault::name).join(", ");
        anyhow::bail!("--fault {name}: there is no such fault; there are {names}");
    }
    let worlds = if args.everywhere {
        vec![(false, false), (false, true), (true, false), (true, true)]
    } else {
        vec![(args.sandbox, args.sync || args.quorum)]
    };
    let mut bad = 0;
    for (pods, sync) in worlds {
        let world = World {
            pods,
            sync,
            quorum: args.quorum,
            // Only root can mount one.
            small_disks: !pods && howdah_process_tests::is_root(),
        };
        bad += campaign(args, world).await?;
    }
    Ok(bad)
}

async fn campaign(args: &Args, world: World) -> anyhow::Result<usize> {
    let mut lab = lab_in(world, args.members, args.ttl).await?;
    println!(
        "{} members on {}, lease {} s, {}{}",
        args.members,
        if world.pods { "Kubernetes" } else { "etcd" },
        if world.pods { 8 } else { args.ttl },
        match (world.sync, world.quorum) {
            (_, true) => "quorum",
            (true, false) => "synchronous",
            (false, false) => "asynchronous",
        },
        if world.pods || world.small_disks {
            ""
        } else {
            " (without disk-full, which needs root)"
        }
    );
    println!(
        "{:<24} {:>5} {:>27} {:>12} {:>10} {:>9} {:>7}",
        "fault", "runs", "outage ms min/median/max", "overlap ms", "lost rows", "acks", "failed"
    );
    let mut bad = 0;
    for fault in Fault::ALL.into_iter().filter(|fault| fault.fits(world)) {
        if !args.fault.is_empty() && !args.fault.iter().any(|name| name == fault.name()) {
            continue;
        }
        bad += usize::from(row(args, world, &mut lab, fault).await?);
    }
    Ok(bad)
}

/// All runs of one fault; whether a promise was broken.
async fn row(args: &Args, world: World, lab: &mut Lab, fault: Fault) -> anyhow::Result<bool> {
    let mut tally = Tally::default();
    let mut failed = 0;
    for run in 0..args.runs {
        match run_fault(lab, fault, world.sync).await {
            Ok(verdict) => tally.verdicts.push(verdict),
            Err(error) => {
                eprintln!("{fault}, run {run}: {error:#}\nin {}", lab.dir().display());
                failed += 1;
                // What is broken stays broken: the next run has members of its own.
                *lab = lab_in(world, args.members, args.ttl).await?;
            }
        }
    }
    let (min, median, max) = tally.outages();
    let acks: usize = tally.verdicts.iter().map(|verdict| verdict.acked).sum();
    println!(
        "{fault:<24} {:>5} {:>27} {:>12} {:>10} {acks:>9} {failed:>7}",
        args.runs,
        format!("{min} / {median} / {max}"),
        tally.overlap(),
        tally.lost()
    );
    let overlaps = tally.overlap() > 0 && !is_excused(fault, world);
    let loses = world.sync && tally.lost() > 0;
    Ok(overlaps || loses || failed > 0)
}
