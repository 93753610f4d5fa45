use std::{sync::Arc, time::Duration};

use howdah_clock::now;
use howdah_dcs::{Answer, Change, StoreError, Watcher, kubernetes::Layout};
use howdah_http::{StreamBody, sleep_until};
use howdah_types::BootTime;
use serde_json::Value;

use crate::{Api, hub::KubeHub, transport::Transport};

/// How long a watch may take to begin.
const BEGIN: Duration = Duration::from_secs(5);

/// Watches the objects of a cluster's state and its Pods, and the end of the leader's record: no server tells that.
pub(crate) struct KubeWatcher {
    hub: KubeHub,
    layout: Arc<Layout>,
    maps: Stream,
    pods: Stream,
    /// The end of a record that was told already.
    told: Option<BootTime>,
    /// The leader's record as it was told last, but for what every renewal changes.
    shown: Option<Value>,
}

struct Stream {
    path: String,
    transport: Transport,
    body: Option<StreamBody>,
    rest: Vec<u8>,
}

impl KubeWatcher {
    pub(crate) fn new(api: Arc<Api>, hub: KubeHub, layout: Arc<Layout>, paths: [String; 2]) -> Self {
        let [maps, pods] = paths.map(|path| Stream {
            path,
            transport: Transport::new(Arc::clone(&api)),
            body: None,
            rest: Vec::new(),
        });
        KubeWatcher {
            hub,
            layout,
            maps,
            pods,
            told: None,
            shown: None,
        }
    }

    async fn next_change(&mut self) -> Result<(), StoreError> {
        loop {
            self.maps.begin().await?;
            self.pods.begin().await?;
            let ends = self.hub.ends().filter(|ends| self.told != Some(*ends));
            tokio::select! {
                lines = self.maps.lines() => {
                    let mut changed = false;
                    for event in lines? {
                        changed |= self.learn(&event);
                    }
                    if !changed {
                        continue;
                    }
                }
                lines = self.pods.lines() => {
                    lines?;
                }
                () = sleep_until(ends.unwrap_or(BootTime::FAR_FUTURE)) => self.told = ends,
            }
            return Ok(());
        }
    }

    /// A renewal counts from when it was seen, so it is noted at once and not at the loop's next read. Whether the event is
    /// more than a renewal.
    fn learn(&mut self, event: &Value) -> bool {
        let object = &event["object"];
        if object["metadata"]["name"] != self.layout.leader_object().as_str() {
            return true;
        }
        if event["type"] == "DELETED" {
            self.shown = None;
            return true;
        }
        // An event tells nothing of when it was asked for: of two versions the newer counts.
        self.hub.see(self.layout.record(object), BootTime(0), now());
        let shown = Some(self.layout.without_renewal(object));
        let changed = self.shown != shown;
        self.shown = shown;
        changed
    }
}

impl Stream {
    async fn begin(&mut self) -> Result<(), StoreError> {
        if self.body.is_none() {
            self.rest.clear();
            let body = self
                .transport
                .stream(&self.path, now() + BEGIN)
                .await
                .map_err(StoreError::from)?;
            self.body = Some(body);
        }
        Ok(())
    }

    /// The next whole lines. What is read before a cancellation stays in `rest`.
    async fn lines(&mut self) -> Result<Vec<Value>, StoreError> {
        loop {
            let Some(body) = self.body.as_mut() else {
                return Err(StoreError::Unreachable("the watch is not open".into()));
            };
            match body.next().await {
                Ok(Some(piece)) => self.rest.extend_from_slice(&piece),
                Ok(None) => {
                    self.body = None;
                    return Err(StoreError::Unreachable("the watch has ended".into()));
                }
                Err(error) => {
                    self.body = None;
                    return Err(StoreError::Unreachable(error.to_string()));
                }
            }
            let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let lines: Vec<u8> = self.rest.drain(..=end).collect();
            return Ok(lines
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect());
        }
    }
}

impl Watcher for KubeWatcher {
    fn changed(&mut self) -> Answer<'_, Result<Change, StoreError>> {
        Box::pin(async {
            self.next_change().await?;
            Ok(Change::Other)
        })
    }
}
