use std::{collections::VecDeque, convert::Infallible, time::Duration};

use bytes::Bytes;
use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_types::BootTime;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Api,
    metadata::metadata_only,
    reply::Reply,
    request::{Form, Request},
    route::Target,
    table,
};
use crate::{
    ApiError, Store,
    resources::Resource,
    selector::Selector,
    store::{Change, Event},
};

/// A watch that nothing happens on says so this often, so that the client knows a recent revision.
const BOOKMARK: Duration = Duration::from_secs(60);
/// A watch that is not woken looks this often, well before the store forgets the changes that it has not looked at.
const LOOK: Duration = Duration::from_secs(20);
/// The longest watch; clients begin a new one.
const LONGEST: u64 = 3600;

struct Watch {
    store: Store,
    resource: Resource,
    namespace: Option<String>,
    selector: Selector,
    form: Form,
    include: String,
    bookmarks: bool,
    revision: u64,
    changed: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    ends: BootTime,
    next_bookmark: BootTime,
    next_look: BootTime,
    queue: VecDeque<Bytes>,
    over: bool,
}

impl Api {
    /// Tells changes as they happen.
    pub(super) fn watch(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        let seconds = request
            .query("timeoutSeconds")
            .parse()
            .unwrap_or(LONGEST)
            .min(LONGEST);
        let from = request.query("resourceVersion");
        let initial = request.is_set("sendInitialEvents") || matches!(from, "" | "0");
        // Before the list, so that nothing is missed between the two.
        let selector = request.selector()?;
        let changed = self.store.subscribe_to(&target.resource.id(), &selector.labels());
        let mut watch = Watch {
            store: self.store.clone(),
            resource: target.resource.clone(),
            namespace: Some(target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            selector,
            form: request.form(),
            include: request.query("includeObject").to_owned(),
            bookmarks: request.is_set("allowWatchBookmarks"),
            revision: match from {
                "" => 0,
                from => from.parse().map_err(|_| {
                    ApiError::bad_request(format!("invalid resource version: {from:?} is no number"))
                })?,
            },
            changed,
            stop: self.stop.clone(),
            ends: now() + Duration::from_secs(seconds),
            next_bookmark: now() + BOOKMARK,
            next_look: now() + LOOK,
            queue: VecDeque::new(),
            over: false,
        };
        if initial {
            watch.tell_everything(request.is_set("sendInitialEvents"));
        } else {
            watch.catch_up();
        }
        let stream = futures_util::stream::unfold(watch, |mut watch| async move {
            let line = watch.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(line)), watch))
        });
        Ok(Reply {
            status: 200,
            content_type: "application/json".into(),
            warnings: Vec::new(),
            body: StreamBody::new(stream).boxed_unsync(),
            switch: None,
        })
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.queue.pop_front() {
                return Some(line);
            }
            if self.over || *self.stop.borrow() {
                return None;
            }
            tokio::select! {
                biased;
                _ = self.stop.changed() => return None,
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    self.catch_up();
                }
                () = sleep_until(self.ends) => return None,
                () = sleep_until(self.next_look) => {
                    self.next_look = now() + LOOK;
                    self.skip();
                    if now() >= self.next_bookmark {
                        self.next_bookmark = now() + BOOKMARK;
                        if self.bookmarks && !self.over {
                            self.bookmark(false);
                        }
                    }
                }
            }
        }
    }

    /// Every object that is there, as if it had just been added.
    fn tell_everything(&mut self, with_end: bool) {
        let (revision, objects) = self.store.list(&self.resource.id(), self.namespace.as_deref());
        for version in objects {
            if self.selector.matches(&version.face) {
                let line = match self.form {
                    Form::Plain => line("ADDED", &version.text),
                    Form::MetadataOnly | Form::Table => self.shown("ADDED", &version.object),
                };
                self.queue.push_back(line);
            }
        }
        self.revision = revision;
        if with_end {
            self.bookmark(true);
        }
    }

    /// Nothing that concerns this watch has happened: other objects have moved the revision on. The revision is read first,
    /// since a change is reported before it can be read.
    fn skip(&mut self) {
        let revision = self.store.revision();
        match self.changed.has_changed() {
            Ok(false) => self.revision = revision,
            Ok(true) | Err(_) => self.catch_up(),
        }
    }

    fn catch_up(&mut self) {
        match self.store.since(&self.resource.id(), self.revision) {
            Ok((revision, events)) => {
                for event in &events {
                    self.send_event(event);
                }
                self.revision = revision;
            }
            Err(error) => {
                self.queue.push_back(line("ERROR", &error.status()));
                self.over = true;
            }
        }
    }

    /// An object that stops to match is deleted for this client, one that begins to is added.
    fn send_event(&mut self, event: &Event) {
        if self
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != event.namespace)
        {
            return;
        }
        let was = event
            .face_before
            .as_ref()
            .is_some_and(|before| self.selector.matches(before));
        let is = event.change != Change::Deleted && self.selector.matches(&event.face);
        let kind = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return,
        };
        let line = match self.form {
            Form::Plain => line(kind, &event.text),
            // The store wrote the text itself.
            Form::MetadataOnly | Form::Table => match serde_json::from_str(&event.text) {
                Ok(object) => self.shown(kind, &object),
                Err(error) => {
                    tracing::error!(%error, "the text of an object is no JSON");
                    return;
                }
            },
        };
        self.queue.push_back(line);
    }

    /// The line of an object in the form that the client wants.
    fn shown(&self, kind: &str, object: &Value) -> Bytes {
        match self.form {
            Form::Plain => line(kind, object),
            Form::MetadataOnly => line(kind, &metadata_only(object)),
            Form::Table => {
                let revision = crate::meta::text(object, "resourceVersion");
                let object = &[object];
                line(
                    kind,
                    &table::table(&self.resource, object, revision, &self.include),
                )
            }
        }
    }

    fn bookmark(&mut self, end: bool) {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({
            "kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata,
        });
        self.queue.push_back(line("BOOKMARK", &object));
    }
}

fn line(kind: &str, object: &impl std::fmt::Display) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}
