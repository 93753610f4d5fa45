//! Strikes a cluster with faults, many times, and prints what the acknowledgements say.

use std::process::ExitCode;

use clap::Parser;
use howdah_process_tests::{Tally, run_fault};
use howdah_testkit::{Fault, Lab, LabOptions};
use serde_json::json;

/// Strikes a real cluster with faults and judges every acknowledgement of the writers that ran through them.
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
    /// Members of the cluster.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// A cluster from a manifest in a sandbox, its members pods, instead of one on etcd. Its lease is that of manifests.
    #[arg(long, conflicts_with = "ttl")]
    sandbox: bool,
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
    let mut lab = if args.sandbox {
        Lab::in_sandbox(args.members, args.sync).await?
    } else {
        let dynamic = json!({"loop_wait": 5, "howdah": {"ttl": args.ttl}, "synchronous_mode": args.sync});
        Lab::running(LabOptions::howdah(args.members)?.dynamic(dynamic)).await?
    };
    println!(
        "{} members on {}, lease {} s, {}",
        args.members,
        if args.sandbox { "Kubernetes" } else { "etcd" },
        args.ttl,
        if args.sync { "synchronous" } else { "asynchronous" }
    );
    println!(
        "{:<24} {:>5} {:>27} {:>12} {:>10} {:>9}",
        "fault", "runs", "outage ms min/median/max", "overlap ms", "lost rows", "acks"
    );
    let mut bad = 0;
    let fits = |fault: &Fault| {
        if args.sandbox {
            fault.fits_pods()
        } else {
            fault.fits_etcd()
        }
    };
    if let Some(name) = args
        .fault
        .iter()
        .find(|name| !Fault::ALL.iter().any(|fault| fault.name() == **name))
    {
        let names = Fault::ALL.map(Fault::name).join(", ");
        anyhow::bail!("--fault {name}: there is no such fault; there are {names}");
    }
    for fault in Fault::ALL.into_iter().filter(fits) {
        if !args.fault.is_empty() && !args.fault.iter().any(|name| name == fault.name()) {
            continue;
        }
        let mut tally = Tally::default();
        for _ in 0..args.runs {
            tally.verdicts.push(run_fault(&mut lab, fault, args.sync).await?);
        }
        let (min, median, max) = tally.outages();
        let acks: usize = tally.verdicts.iter().map(|verdict| verdict.acked).sum();
        println!(
            "{fault:<24} {:>5} {:>27} {:>12} {:>10} {acks:>9}",
            args.runs,
            format!("{min} / {median} / {max}"),
            tally.overlap(),
            tally.lost()
        );
        // What no local process can cover in asynchronous mode, docs/safety.md says.
        let excused = fault == Fault::BothFrozen && !args.sync;
        let overlaps = tally.overlap() > 0 && !excused;
        let loses = args.sync && tally.lost() > 0;
        bad += usize::from(overlaps || loses);
    }
    Ok(bad)
}
