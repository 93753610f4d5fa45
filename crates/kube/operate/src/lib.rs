//! `howdah operator`: the operator as a process of its own, on a Kubernetes that it did not start.
//!
//! ```text
//!   cli.rs, place.rs      flags, environment, where the API is, which namespaces
//!   keys.rs, configuration.rs   upstream's ConfigMap or OperatorConfiguration ─► settings
//!   lease.rs ─► election.rs     which of several replicas leads (pure rule, then the Lease object)
//!   terms.rs              while this one leads: an operator (howdah-operator) behind its fence
//!   requests.rs ─► counting.rs  what is asked of the API, counted
//!   serve.rs, routes.rs   health, metrics, upstream's debug API
//!   webhook/              what is wrong with a manifest, before it is stored
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod cli;
mod configuration;
mod counting;
mod election;
mod keys;
mod lease;
mod place;
mod requests;
mod routes;
mod serve;
mod terms;
mod webhook;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
pub use cli::{OperatorArgs, with_double_dashes};
use howdah_clock::now;
use howdah_http::{sleep_until, use_ring};
use howdah_operator::Meter;
use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    configuration::Configuration, counting::Requests, election::Election, place::Place, routes::Shown,
    terms::Terms, webhook::Webhook,
};

/// How often the configuration is read again.
const REREAD: Duration = Duration::from_secs(15);

/// Runs until a signal. Returns the exit code.
///
/// # Errors
/// The configuration cannot be read or used, the address cannot be listened on.
pub fn run(args: &OperatorArgs) -> anyhow::Result<u8> {
    use_ring();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?;
    runtime.block_on(operator(args))
}

async fn operator(args: &OperatorArgs) -> anyhow::Result<u8> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut asked_to_stop = std::pin::pin!(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let begun = tokio::select! {
        biased;
        () = &mut asked_to_stop => return Ok(0),
        begun = begin(args) => begun?,
    };
    let Begun {
        place,
        client,
        requests,
        configuration,
    } = begun;
    let listen = args.listen.unwrap_or(configuration.listen);
    let election = Election::new(
        counting::client(place.config.clone(), &requests)?,
        &place,
        &configuration.controller_id,
        args.lease.as_deref(),
        listen.port(),
        !args.no_leader_election,
    )?;
    let shown = Arc::new(Shown {
        meter: Arc::new(Meter::default()),
        requests,
        operator: ArcSwapOption::empty(),
        hindered: ArcSwapOption::empty(),
        leading: election.state(),
        configured: arc_swap::ArcSwap::from_pointee(configuration.said.clone()),
        token: args
            .api_token
            .as_deref()
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty()),
    });
    let listener = serve::listen(listen).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = configuration.namespace.as_deref().unwrap_or("all"),
        image = configuration.settings.docker_image,
        "The operator has started."
    );
    let (stop, stopped) = watch::channel(false);
    let (newest, configurations) = watch::channel(Arc::new(configuration));
    let webhook = Webhook::listen(args, &client, &place, configurations.clone()).await?;
    let terms = Terms {
        client: client.clone(),
        configuration: configurations,
        shown: Arc::clone(&shown),
        moment: election.moment(),
    };
    let ended = async {
        asked_to_stop.await;
        tracing::info!("Stopping: passes that run end first.");
        stop.send_replace(true);
    };
    // The Lease is given back after the last pass has ended.
    let working = async {
        terms.run(stopped.clone()).await;
        election.retire();
    };
    let admission = async {
        if let Some(webhook) = webhook {
            webhook.run(stopped.clone()).await;
        }
    };
    tokio::join!(
        election.run(),
        working,
        admission,
        follow_configuration(&client, args, &place, &newest, &shown, stopped.clone()),
        serve::run(listener, Arc::clone(&shown), stopped.clone()),
        ended
    );
    Ok(0)
}

/// What is there once the process has begun.
struct Begun {
    place: Place,
    client: Client,
    requests: Arc<Requests>,
    configuration: Configuration,
}

async fn begin(args: &OperatorArgs) -> anyhow::Result<Begun> {
    let place = Place::find(args).await?;
    let requests = Arc::new(Requests::default());
    let client = counting::client(place.config.clone(), &requests)?;
    let configuration = Configuration::read(&client, args, &place).await?;
    for note in &configuration.notes {
        tracing::warn!("{note}.");
    }
    Ok(Begun {
        place,
        client,
        requests,
        configuration,
    })
}

/// Reads the configuration again and again. A changed one takes effect at once; one that cannot be used changes nothing, and is named.
async fn follow_configuration(
    client: &Client,
    args: &OperatorArgs,
    place: &Place,
    newest: &watch::Sender<Arc<Configuration>>,
    shown: &Shown,
    mut stop: watch::Receiver<bool>,
) {
    let mut failing = String::new();
    let mut last = Arc::clone(&newest.borrow());
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep_until(now() + REREAD) => {}
        }
        let read = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            read = Configuration::read(client, args, place) => read,
        };
        match read {
            Ok(read) => {
                failing.clear();
                for note in read.notes.iter().filter(|note| !last.notes.contains(note)) {
                    tracing::warn!("{note}.");
                }
                if read.listen != last.listen && args.listen.is_none() {
                    tracing::warn!("A change of api_port takes effect when the operator is restarted.");
                }
                shown.configured.store(Arc::new(read.said.clone()));
                let read = Arc::new(read);
                if !read.is_same(&last) {
                    tracing::info!("The configuration has changed and takes effect.");
                    newest.send_replace(Arc::clone(&read));
                }
                last = read;
            }
            Err(error) => {
                let error = format!("{error:#}");
                if error != failing {
                    tracing::warn!("The last configuration stays in effect: {error}.");
                }
                failing = error;
            }
        }
    }
}
