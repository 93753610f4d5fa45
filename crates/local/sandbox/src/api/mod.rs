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
mod table;
mod watching;
mod write;

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Store, resources::Resource};

pub(crate) use delete::{IN_USE, protect};
pub(crate) use route::route;

type Catalogue = (u64, Arc<Vec<Resource>>);

/// What the API serves from.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Store,
    /// Who may come: a token, and the name it stands for.
    pub(crate) tokens: Arc<Vec<(String, String)>>,
    /// Where the node keeps its pods, for their logs.
    pub(crate) pods: PathBuf,
    /// Cluster addresses for Services.
    pub(crate) addresses: crate::node::Addresses,
    pub(crate) stop: watch::Receiver<bool>,
    /// Held by an eviction.
    evictions: Arc<Mutex<()>>,
    /// All resources, and the state of the definitions that they were read from.
    catalogue: Arc<Mutex<Option<Catalogue>>>,
}

impl Api {
    pub(crate) fn new(
        store: Store,
        tokens: Vec<(String, String)>,
        pods: PathBuf,
        addresses: crate::node::Addresses,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Api {
            store,
            tokens: Arc::new(tokens),
            pods,
            addresses,
            stop,
            evictions: Arc::default(),
            catalogue: Arc::default(),
        }
    }
}
