//! Howdah and Patroni, measured in one run on one machine with the same writers.
//!
//! `HOWDAH_PATRONI=DIR HOWDAH_BIN=target/release/howdah cargo run --release -p howdah-bench`; `script/test` installs
//! Patroni below `/var/tmp`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use howdah_clock::now;
use howdah_http::{Client, Method, Url};
use howdah_testkit::{Fault, Flavour, Lab, LabOptions, Settings, Writers, judge, rows, strike};

const PATIENCE: Duration = Duration::from_secs(90);

/// Measures outages, memory, threads and health checks of Howdah and of Patroni.
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each fault.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these: howdah, patroni. [default: both]
    #[arg(long)]
    only: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let howdah = LabOptions::howdah(1)?.members;
    let patroni = std::env::var_os("HOWDAH_PATRONI").map(|dir| PathBuf::from(dir).join("bin/patroni"));
    for (name, flavour) in [
        ("howdah", howdah.into_iter().next()),
        ("patroni", patroni.map(Flavour::Patroni)),
    ] {
        let Some(flavour) = flavour else { continue };
        if args.only.as_deref().is_none_or(|only| only == name) {
            println!("## {name} (three members, 30/10/10, asynchronous)");
            measure(&flavour, args.runs).await?;
        }
    }
    Ok(())
}

async fn measure(flavour: &Flavour, runs: usize) -> anyhow::Result<()> {
    let options = LabOptions {
        members: vec![flavour.clone(); 3],
        settings: Settings::default(),
        linked: false,
        small_disks: false,
    };
    let mut lab = Lab::new(options).await?;
    let begun = now();
    lab.start_all()?;
    lab.wait_healthy(PATIENCE).await?;
    println!(
        "start to three healthy members: {:.2} s",
        now().since(begun).as_secs_f64()
    );

    let ours = matches!(flavour, Flavour::Howdah(_));
    // An agent of Patroni has no guard: what is frozen is all there is of it.
    let frozen = if ours {
        Fault::AgentFrozen
    } else {
        Fault::BothFrozen
    };
    let faults = [
        ("postmaster killed", Fault::Postmaster, runs),
        ("switchover", Fault::Switchover, runs),
        ("agent terminated", Fault::Terminate, runs),
        ("node death", Fault::Node, runs.min(3)),
        ("agent frozen", frozen, runs.min(3)),
    ];
    for (name, fault, runs) in faults {
        let mut outages = Vec::new();
        let (mut overlap, mut lost) = (Duration::ZERO, 0);
        for _ in 0..runs {
            let verdict = one(&mut lab, fault).await?;
            outages.push(verdict.outage.as_secs_f64());
            overlap = overlap.max(verdict.overlap);
            lost += verdict.lost;
        }
        outages.sort_by(f64::total_cmp);
        let at = |i: usize| outages.get(i).copied().unwrap_or(0.0);
        println!(
            "{name}: write outage {:.2} s ({:.2}-{:.2}, {runs} runs), two writable {:.1} s, acknowledged rows lost {lost}",
            at(outages.len() / 2),
            at(0),
            at(outages.len().saturating_sub(1)),
            overlap.as_secs_f64(),
        );
    }
    lab.wait_healthy(PATIENCE).await?;
    let footprints: Vec<(u64, u64)> = lab
        .members
        .iter()
        .map(howdah_testkit::Member::footprint)
        .collect();
    let worst = footprints.iter().max().copied().unwrap_or_default();
    println!(
        "memory (RSS, largest member): {:.1} MiB, threads {}",
        worst.0 as f64 / 1024.0,
        worst.1
    );
    health_checks(&lab).await
}

async fn one(lab: &mut Lab, fault: Fault) -> anyhow::Result<howdah_testkit::Verdict> {
    lab.wait_healthy(PATIENCE).await?;
    let primary = lab.wait_primary(PATIENCE).await?;
    let addresses = lab.addresses();
    let (mut writers, mut acks) = Writers::on_empty_table(&addresses, primary).await?;
    let struck = now();
    strike(lab, fault, PATIENCE).await?;
    writers.wait_all(&mut acks, now(), PATIENCE).await?;
    lab.wait_healthy(PATIENCE).await?;
    acks.extend(writers.stop().await);
    let primary = lab.wait_primary(PATIENCE).await?;
    Ok(judge(
        &acks,
        struck,
        &rows(&lab.members[primary].address()).await?,
    ))
}

/// `GET /health` and `GET /cluster` from eight clients for three seconds, each request on a connection of its own (what Patroni
/// serves), and on connections that are kept (what ours serves as well).
async fn health_checks(lab: &Lab) -> anyhow::Result<()> {
    for (path, keep) in [
        ("/health", false),
        ("/health", true),
        ("/cluster", false),
        ("/cluster", true),
    ] {
        let url = Url::parse(&format!("http://127.0.0.1:{}{path}", lab.members[0].api))?;
        let until = now() + Duration::from_secs(3);
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let url = url.clone();
            clients.spawn(async move {
                let mut times = Vec::new();
                let mut kept = None;
                while now() < until {
                    let begun = now();
                    let deadline = begun + Duration::from_secs(5);
                    let mut connection = match kept.take() {
                        Some(connection) => connection,
                        None => match Client::default().connect(&url, deadline).await {
                            Ok(connection) => connection,
                            Err(_) => continue,
                        },
                    };
                    let answer = connection.request(Method::GET, &url.path, None, deadline).await;
                    if answer.is_ok_and(|answer| answer.status == 200) {
                        times.push(now().since(begun));
                    }
                    kept = Some(connection).filter(|connection| keep && connection.is_open());
                }
                times
            });
        }
        let mut times: Vec<Duration> = clients.join_all().await.into_iter().flatten().collect();
        times.sort();
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
        println!(
            "{path}, {}: {} /s, p99 {:.2} ms",
            if keep {
                "kept connections"
            } else {
                "a connection each"
            },
            times.len() / 3,
            p99.as_secs_f64() * 1000.0
        );
    }
    Ok(())
}
