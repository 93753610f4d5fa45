use std::{collections::BTreeSet, time::Duration};

use howdah_clock::now;
use howdah_dcs::{Answer, Change, Changes, KeyTree, StoreError, Watcher};

use crate::{
    Ensemble,
    connection::{CallError, Connection, Event, Identity},
    wire::{Code, Node, Request},
};

/// How long a watch may take to begin, and a node that has changed to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session of a watch ends this long after its connection.
const SESSION: Duration = Duration::from_secs(15);

/// Watches all nodes of one cluster by one recursive watch, which servers know since 3.6.
pub(crate) struct ZooWatcher {
    ensemble: Ensemble,
    path: String,
    connection: Option<Connection>,
    server: usize,
    changes: Changes,
}

impl ZooWatcher {
    pub(crate) fn new(tree: KeyTree, ensemble: Ensemble) -> Self {
        ZooWatcher {
            path: tree.prefix().trim_end_matches('/').to_owned(),
            ensemble,
            connection: None,
            server: 0,
            changes: Changes::new(tree),
        }
    }

    async fn next(&mut self) -> Result<Change, CallError> {
        let Some(connection) = &mut self.connection else {
            self.changes.forget();
            let deadline = now() + PATIENCE;
            let server = self.server % self.ensemble.servers.len().max(1);
            let identity = Identity::new(SESSION);
            let opened = Connection::open(&self.ensemble, server, &identity, deadline).await;
            let (connection, _) = opened.inspect_err(|_| self.server += 1)?;
            connection.call(Request::watch(&self.path), deadline).await?;
            self.connection = Some(connection);
            // What was changed before it stood may have been missed.
            return Ok(Change::Other);
        };
        let Some(first) = connection.events.recv().await else {
            return Err(CallError::Unknown("the watch has ended".into()));
        };
        // Several changes of one node are read once.
        let mut seen = BTreeSet::from([(first.path.clone(), first.deleted)]);
        let mut events = vec![first];
        while let Ok(event) = connection.events.try_recv() {
            if seen.insert((event.path.clone(), event.deleted)) {
                events.push(event);
            }
        }
        let mut change = Change::Positions;
        for Event { path, deleted } in events {
            let value = if deleted {
                None
            } else {
                match connection.call(Request::get(&path), now() + PATIENCE).await {
                    Ok(body) => Some(Node::read(&body)?.value),
                    Err(CallError::Refused(Code::NoNode)) => None,
                    Err(error) => return Err(error),
                }
            };
            change = change.max(self.changes.see(&path, value.as_deref()));
        }
        Ok(change)
    }
}

impl Watcher for ZooWatcher {
    fn changed(&mut self) -> Answer<'_, Result<Change, StoreError>> {
        Box::pin(async move {
            self.next().await.map_err(|error| {
                self.connection = None;
                StoreError::from(error)
            })
        })
    }
}
