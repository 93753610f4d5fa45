//! The HTTP API: what Kubernetes' clients send, and what they want back.

mod catalogue;
mod delete;
mod discovery;
mod eviction;
mod logs;
mod metadata;
mod openapi;
mod protobuf;
mod read;
mod reply;
mod request;
mod review;
mod route;
mod scale;
mod sessions;
mod table;
mod watching;
mod write;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::{Store, node::Node, resources::Resource};

pub(crate) use delete::{IN_USE, protect};
pub(crate) use route::route;

/// The name of whoever has the sandbox's kubeconfig.
pub(crate) const ADMIN: &str = "admin";

type Catalogue = (u64, Arc<Vec<Resource>>);

/// What the API serves from.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Store,
    /// Who may come: a token, and the name it stands for.
    pub(crate) tokens: Arc<Vec<(String, String)>>,
    /// Runs the pods: their logs and programs, and cluster addresses.
    pub(crate) node: Arc<Node>,
    pub(crate) stop: watch::Receiver<bool>,
    /// A place for each session of exec and port-forward.
    pub(crate) sessions: Arc<Semaphore>,
    /// Held by an eviction.
    evictions: Arc<Mutex<()>>,
    /// All resources, and the state of the definitions that they were read from.
    catalogue: Arc<Mutex<Option<Catalogue>>>,
}

impl Api {
    pub(crate) fn new(node: Arc<Node>, tokens: Vec<(String, String)>, stop: watch::Receiver<bool>) -> Self {
        Api {
            store: node.store.clone(),
            tokens: Arc::new(tokens),
            node,
            stop,
            sessions: Arc::new(Semaphore::new(sessions::SESSIONS)),
            evictions: Arc::default(),
            catalogue: Arc::default(),
        }
    }
}
