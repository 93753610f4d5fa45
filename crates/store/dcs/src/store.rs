use std::{future::Future, pin::Pin};

use howdah_types::BootTime;
use thiserror::Error;

use crate::{Change, KeyOp, LeaseDone, LeaseOp, Outcome, View};

/// A future that a store returns; boxed, so that stores can be chosen when the program runs.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the store could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// No endpoint answered in time.
    #[error("the store does not answer: {0}")]
    Unreachable(String),
    /// It answered with an error, or with something that is not its protocol.
    #[error("the store answered with an error: {0}")]
    Protocol(String),
    /// The credentials are refused.
    #[error("the store refuses our credentials: {0}")]
    Auth(String),
}

/// One cluster's keys in one store.
pub trait Store: Send + Sync {
    /// Carries out an operation on the lease or the leader key. Every way it can end is an [`Outcome`]; it returns soon
    /// after `deadline`.
    fn lease<'a>(&'a self, op: &'a LeaseOp, deadline: BootTime) -> Answer<'a, Outcome<LeaseDone>>;

    /// Writes one key: done with its new revision. It returns soon after `deadline`.
    fn write<'a>(&'a self, op: &'a KeyOp, deadline: BootTime) -> Answer<'a, Outcome<u64>>;

    /// Reads the whole cluster in one linearisable read.
    fn read(&self, deadline: BootTime) -> Answer<'_, Result<View, StoreError>>;

    /// Begins to watch the cluster.
    fn watch(&self) -> Box<dyn Watcher>;
}

/// Tells that something changed; what it is now, a read tells.
pub trait Watcher: Send {
    /// Returns when some key of the cluster has changed, or when changes may have been missed.
    fn changed(&mut self) -> Answer<'_, Result<Change, StoreError>>;
}
