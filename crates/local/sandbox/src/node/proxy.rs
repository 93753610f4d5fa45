//! Services: a listener on each cluster address, which hands connections to the pods that the Service selects.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use serde_json::{Map, Value};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{AbortHandle, JoinSet},
};

use crate::{Store, controllers::record, meta};

/// Connections through one Service at a time.
const CONNECTIONS: usize = 1024;
/// How long a pod may take to accept.
const CONNECT: Duration = Duration::from_secs(2);

/// Which Service a listener is for.
type Key = (String, String, u64);

/// Serves all Services until `stop`.
pub(super) async fn run(store: Store, mut stop: watch::Receiver<bool>) {
    let mut changed = store.subscribe();
    let mut listeners: BTreeMap<Key, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changed.mark_unchanged();
        let wanted = ports(&store);
        listeners.retain(|key, task| {
            let stays = wanted.contains_key(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, port) in wanted {
            listeners
                .entry(key)
                .or_insert_with_key(|key| tasks.spawn(serve(store.clone(), key.clone(), port)));
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = changed.changed() => {}
            // A listener ends only when it is stopped.
            Some(_) = tasks.join_next() => {}
        }
    }
    tasks.shutdown().await;
}

/// A Service's uid, address and port, and where its port leads. Node ports are on the loopback address alone: a sandbox is not
/// for other machines.
fn ports(store: &Store) -> BTreeMap<Key, u64> {
    let mut out = BTreeMap::new();
    for service in store.all("/services", None) {
        let Some(address) = service["spec"]["clusterIP"]
            .as_str()
            .filter(|ip| *ip != "None" && !ip.is_empty())
        else {
            continue;
        };
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            if let (Some(from), Some(to)) = (port["port"].as_u64(), port["targetPort"].as_u64()) {
                let uid = meta::uid(&service).to_owned();
                if let Some(node) = port["nodePort"].as_u64().filter(|node| *node > 0) {
                    out.insert((uid.clone(), "127.0.0.1".to_owned(), node), to);
                }
                out.insert((uid, address.to_owned(), from), to);
            }
        }
    }
    out
}

async fn serve(store: Store, (uid, address, port): Key, target: u64) {
    let listener = loop {
        match TcpListener::bind(format!("{address}:{port}")).await {
            Ok(listener) => break listener,
            Err(error) => {
                if let Some(service) = find(&store, &uid) {
                    let told = format!(
                        "nothing can listen on {address}:{port}: {error}; does another program listen on all addresses?"
                    );
                    record(&store, &service, "Warning", "ListenFailed", &told);
                }
                sleep_until(now() + Duration::from_secs(5)).await;
            }
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut turn = 0usize;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((client, _)) = accepted else {
            sleep_until(now() + Duration::from_millis(50)).await;
            continue;
        };
        turn = turn.wrapping_add(1);
        let backends = find(&store, &uid)
            .map(|service| backends(&store, &service, target))
            .unwrap_or_default();
        connections.spawn(async move {
            connect(client, &backends, turn).await;
            drop(place);
        });
    }
}

fn find(store: &Store, uid: &str) -> Option<Arc<Value>> {
    store
        .all("/services", None)
        .into_iter()
        .find(|service| meta::uid(service) == uid)
}

/// The addresses of the ready pods that a Service selects.
fn backends(store: &Store, service: &Value, port: u64) -> Vec<SocketAddr> {
    let Some(selector) = service["spec"]["selector"].as_object().filter(|s| !s.is_empty()) else {
        return Vec::new();
    };
    let selector: &Map<String, Value> = selector;
    store
        .all("/pods", Some(meta::namespace(service)))
        .iter()
        .filter(|pod| meta::has_labels(pod, selector) && !meta::is_ending(pod) && meta::is_ready(pod))
        .filter_map(|pod| {
            format!("{}:{port}", pod["status"]["podIP"].as_str()?)
                .parse()
                .ok()
        })
        .collect()
}

/// Hands a connection to a pod; one that refuses is passed over. Without any the client sees its connection closed.
async fn connect(mut client: TcpStream, backends: &[SocketAddr], turn: usize) {
    let _ = client.set_nodelay(true);
    for offset in 0..backends.len() {
        let backend = backends[(turn + offset) % backends.len()];
        if let Ok(Ok(mut server)) = timeout_at(now() + CONNECT, TcpStream::connect(backend)).await {
            let _ = server.set_nodelay(true);
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
