//! The objects, with one revision for all of them, the last changes for watches, and a log on disk.

mod log;
mod watched;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};

use howdah_clock::now;
use howdah_types::BootTime;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    ApiError,
    meta::{self, Label},
    selector::selectable,
};
use log::{Log, LogError};
use watched::Watched;

/// How many changes of its resource a watch may be behind before its client has to list again, however fast they come.
const RING: usize = 4096;
/// Of changes that are older than [`KEPT`], only this many are kept: a client that was away for longer lists again.
const OLD: usize = 8;
/// How long every change is kept: longer than a client whose last bookmark is a minute old takes to connect again.
const KEPT: Duration = Duration::from_secs(90);

/// Where an object is: resource (`group/plural`), namespace (empty for none), name.
pub(crate) type Key = (String, String, String);

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One change. The object is kept as text: as a tree it takes ten times as much memory, and a watch sends text.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    /// When it happened.
    at: BootTime,
    pub(crate) change: Change,
    pub(crate) namespace: String,
    /// The object in JSON: after the change; before it, with the revision of the deletion, when it was deleted.
    pub(crate) text: Arc<str>,
    /// What selectors look at, in that version of the object.
    pub(crate) face: Arc<Value>,
    /// The same before the change.
    pub(crate) face_before: Option<Arc<Value>>,
}

/// What a write does.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Value),
    Delete,
    Nothing,
}

/// All objects of the sandbox. Operations are short and hold a lock for microseconds; none waits for the network.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    /// The last change that is more than a note.
    revision: watch::Sender<u64>,
    watched: Arc<Watched>,
}

struct Inner {
    objects: BTreeMap<Key, Stored>,
    revision: u64,
    /// The last changes of each resource.
    rings: BTreeMap<String, Ring>,
    /// The revision of the beginning: of what was before, no change is known.
    opened: u64,
    log: Option<Log>,
}

/// A version of an object.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) object: Arc<Value>,
    /// The same in JSON: written once, for the log, for watches and for answers.
    pub(crate) text: Arc<str>,
    /// What selectors look at. Versions that look the same to them share it.
    pub(crate) face: Arc<Value>,
}

impl Stored {
    pub(crate) fn new(object: Value) -> Self {
        Stored {
            text: object.to_string().into(),
            face: Arc::new(selectable(&object)),
            object: Arc::new(object),
        }
    }

    /// The version that follows `before`.
    fn after(before: Option<&Stored>, object: Value) -> Self {
        let mut new = Stored::new(object);
        if let Some(before) = before.filter(|before| before.face == new.face) {
            new.face = Arc::clone(&before.face);
        }
        new
    }
}

/// The last changes of one resource.
struct Ring {
    events: VecDeque<Event>,
    /// Changes up to this one are no longer here.
    compacted: u64,
}

impl Store {
    /// A store in memory alone.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::with(Inner {
            objects: BTreeMap::new(),
            revision: 1,
            rings: BTreeMap::new(),
            opened: 1,
            log: None,
        })
    }

    /// Opens the store in a directory; begins one if it does not exist.
    ///
    /// # Errors
    /// The log cannot be read, or is of another version.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        let (log, objects, revision) = Log::open(directory)?;
        let objects = objects.into_iter().map(|(k, v)| (k, Stored::new(v))).collect();
        Ok(Self::with(Inner {
            objects,
            revision,
            rings: BTreeMap::new(),
            opened: revision,
            log: Some(log),
        }))
    }

    fn with(inner: Inner) -> Self {
        let (revision, _) = watch::channel(inner.revision);
        Store {
            inner: Arc::new(Mutex::new(inner)),
            revision,
            watched: Arc::default(),
        }
    }

    /// Reports every change that controllers and the node act on: all but those that leave everything except an object's
    /// annotations as it was. The renewals of leases are such, a few each second.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Reports every change of a resource; with labels, of those of its objects that have all of them. It may report others
    /// too.
    pub(crate) fn subscribe_to(&self, resource: &str, labels: &[Label]) -> watch::Receiver<u64> {
        self.watched.subscribe(resource, labels)
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        Some(self.version(resource, namespace, name)?.object)
    }

    /// An object with its text.
    pub(crate) fn version(&self, resource: &str, namespace: &str, name: &str) -> Option<Stored> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.inner.lock().objects.get(&key).cloned()
    }

    /// The objects of a resource, in one namespace or in all, and the revision they are of.
    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> (u64, Vec<Stored>) {
        let inner = self.inner.lock();
        let from = (
            resource.to_owned(),
            namespace.unwrap_or_default().to_owned(),
            String::new(),
        );
        let objects = inner
            .objects
            .range(from..)
            .take_while(|((r, ns, _), _)| r == resource && namespace.is_none_or(|wanted| ns == wanted))
            .map(|(_, stored)| stored.clone())
            .collect();
        (inner.revision, objects)
    }

    /// The objects of a resource, in one namespace or in all.
    pub(crate) fn all(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let (_, versions) = self.list(resource, namespace);
        versions.into_iter().map(|version| version.object).collect()
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.inner.lock().revision
    }

    /// The changes of a resource after a revision.
    ///
    /// # Errors
    /// They are no longer known (410).
    pub(crate) fn since(&self, resource: &str, revision: u64) -> Result<(u64, Vec<Event>), ApiError> {
        let inner = self.inner.lock();
        let ring = inner.rings.get(resource);
        let compacted = ring.map_or(inner.opened, |ring| ring.compacted);
        if revision < compacted {
            return Err(ApiError::gone(format!(
                "too old resource version: {revision} ({compacted})"
            )));
        }
        let after = |ring: &Ring| {
            let first = ring.events.partition_point(|event| event.revision <= revision);
            ring.events.range(first..).cloned().collect()
        };
        Ok((inner.revision, ring.map(after).unwrap_or_default()))
    }

    /// Reads and writes one object in one step. The new object gets its revision here; one that is as it was keeps it.
    ///
    /// # Errors
    /// Those of `decide`.
    pub(crate) fn write(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        decide: impl FnOnce(Option<&Value>) -> Result<Write, ApiError>,
    ) -> Result<Option<Stored>, ApiError> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut inner = self.inner.lock();
        let stored_before = inner.objects.get(&key).cloned();
        let before = stored_before.as_ref().map(|stored| &*stored.object);
        let mut write = decide(before)?;
        if let Write::Put(object) = &mut write {
            meta::tidy(object);
        }
        let (change, mut object) = match (write, before) {
            (Write::Nothing, _) | (Write::Delete, None) => return Ok(stored_before),
            (Write::Put(object), Some(before)) if object == *before => return Ok(stored_before),
            (Write::Put(object), Some(_)) => (Change::Modified, object),
            (Write::Put(object), None) => (Change::Added, object),
            (Write::Delete, Some(before)) => (Change::Deleted, before.clone()),
        };
        let revision = inner.revision + 1;
        meta::set(
            &mut object,
            &["metadata", "resourceVersion"],
            json!(revision.to_string()),
        );
        let stored = Stored::after(stored_before.as_ref(), object);
        let is_note = change == Change::Modified
            && before.is_some_and(|before| differs_in(before, &stored.object, &[], &NOTES));
        let kept = Some(&*stored.text).filter(|_| change != Change::Deleted);
        let must = change != Change::Modified || !is_news(resource, before, &stored.object);
        if let Err(error) = inner.persist(&key, revision, kept, must)
            && must
        {
            inner.compact(revision - 1);
            return Err(ApiError::no_space(&error.to_string()));
        }
        inner.revision = revision;
        if change == Change::Deleted {
            inner.objects.remove(&key);
        } else {
            inner.objects.insert(key, stored.clone());
        }
        inner.compact(revision);
        let opened = inner.opened;
        let ring = inner.rings.entry(resource.to_owned()).or_insert_with(|| Ring {
            events: VecDeque::new(),
            compacted: opened,
        });
        let at = now();
        ring.events.push_back(Event {
            revision,
            at,
            change,
            namespace: namespace.to_owned(),
            text: Arc::clone(&stored.text),
            face: Arc::clone(&stored.face),
            face_before: stored_before.as_ref().map(|before| Arc::clone(&before.face)),
        });
        while let Some(first) = ring.events.front()
            && (ring.events.len() > RING || (ring.events.len() > OLD && first.at + KEPT < at))
        {
            ring.compacted = first.revision;
            ring.events.pop_front();
        }
        // Under the lock, so that revisions are reported in order.
        if !is_note {
            self.revision.send_replace(revision);
        }
        self.watched
            .changed(resource, revision, [before, Some(&stored.object)]);
        Ok(Some(stored))
    }
}

/// Whether a change is what programs say of themselves again and again: it is made although the disk is full, so that databases
/// go on. Agents keep their state in the annotations of ConfigMaps and pods, mark the primary by a label of its pod, and renew
/// leases. Whatever else a client asks for is refused instead of being lost with the process.
fn is_news(resource: &str, before: Option<&Value>, after: &Value) -> bool {
    let Some(before) = before else { return false };
    match resource {
        "/pods"
        | "/endpoints"
        | "/nodes"
        | "coordination.k8s.io/leases"
        | "discovery.k8s.io/endpointslices" => true,
        "/configmaps" => differs_in(before, after, &[], &NOTES),
        _ => differs_in(before, after, &["status"], &NOTES[1..]),
    }
}

/// What agents write, and what every write changes.
const NOTES: [&str; 3] = ["annotations", "managedFields", "resourceVersion"];

/// Whether two versions of an object differ in these of its parts and of its metadata alone.
fn differs_in(before: &Value, after: &Value, parts: &[&str], of_metadata: &[&str]) -> bool {
    let parts = [&["metadata"], parts].concat();
    meta::same_but(before, after, &parts)
        && meta::same_but(&before["metadata"], &after["metadata"], of_metadata)
}

impl Inner {
    /// Puts a change on the disk before it counts. After a failure a new file takes the place of the old one, and until it has,
    /// nothing is kept.
    fn persist(&mut self, key: &Key, revision: u64, object: Option<&str>, must: bool) -> std::io::Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        if let Err(error) = log.finish_compaction() {
            // The old file goes on.
            tracing::error!(%error, "A new file of the sandbox's state could not be written.");
        }
        let was_broken = log.is_broken();
        let written = log.append(key, revision, object, must);
        match &written {
            Err(error) if !was_broken => {
                tracing::error!(%error, "The sandbox's state cannot be written: changes are refused.");
            }
            Ok(()) | Err(_) => {}
        }
        written
    }

    /// Begins a new file when the old one has grown, or is broken.
    fn compact(&mut self, revision: u64) {
        let Some(log) = &mut self.log else { return };
        if !log.wants_compaction(self.objects.len()) {
            return;
        }
        let objects = &self.objects;
        let snapshot = objects
            .iter()
            .map(|(key, stored)| (key.clone(), Arc::clone(&stored.object)));
        if let Err(error) = log.begin_compaction(snapshot.collect(), revision) {
            tracing::error!(%error, "The sandbox's state cannot be written.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, name: &str, value: Value) {
        let object = json!({"metadata": {"name": name}, "data": value});
        store.write("/x", "ns", name, |_| Ok(Write::Put(object))).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_refused_and_leases_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let map = |name: &str, note: &str, data: &str| {
            let object =
                json!({"metadata": {"name": name, "annotations": {"renewed": note}}, "data": {"a": data}});
            store.write("/configmaps", "ns", name, |_| Ok(Write::Put(object)))
        };
        map("a", "1", "x").unwrap();
        // Every write to it says that the disk is full; so does the new file.
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        store.inner.lock().log.as_mut().unwrap().write_to(full());
        std::fs::create_dir(dir.path().join("store.next")).unwrap();
        assert_eq!(map("b", "1", "x").unwrap_err().code, 507);
        assert_eq!(map("a", "2", "y").unwrap_err().code, 507);
        assert!(store.get("/configmaps", "ns", "b").is_none());
        map("a", "2", "x").unwrap();
        let renewed = |store: &Store| {
            store.get("/configmaps", "ns", "a").unwrap()["metadata"]["annotations"]["renewed"].clone()
        };
        assert_eq!(renewed(&store), "2");
        // There is room again: after a while a new file takes the place of the broken one.
        std::fs::remove_dir(dir.path().join("store.next")).unwrap();
        let limit = now() + Duration::from_secs(20);
        while map("c", "1", "x").is_err() {
            assert!(now() < limit, "it never recovers");
            howdah_http::sleep_until(now() + Duration::from_millis(20)).await;
        }
        drop(store);
        let again = Store::open(dir.path()).unwrap();
        assert!(again.get("/configmaps", "ns", "b").is_none());
        assert!(again.get("/configmaps", "ns", "c").is_some());
        assert_eq!(renewed(&again), "2");
        assert_eq!(again.get("/configmaps", "ns", "a").unwrap()["data"]["a"], "x");
    }

    #[test]
    fn changes_are_told_in_order_and_old_ones_expire() {
        let store = Store::in_memory();
        put(&store, "a", json!(1));
        let (revision, _) = store.list("/x", None);
        put(&store, "a", json!(2));
        put(&store, "a", json!(2).clone());
        store.write("/x", "ns", "a", |_| Ok(Write::Delete)).unwrap();
        let (_, events) = store.since("/x", revision).unwrap();
        let kinds: Vec<Change> = events.iter().map(|e| e.change).collect();
        assert_eq!(kinds, [Change::Modified, Change::Modified, Change::Deleted]);
        for n in 0..=RING {
            put(&store, "b", json!(n));
        }
        assert_eq!(store.since("/x", revision).unwrap_err().code, 410);
    }

    #[test]
    fn a_note_wakes_watches_of_its_resource_alone() {
        let store = Store::in_memory();
        let object = |note: &str, value: i64| json!({"metadata": {"name": "a", "annotations": {"note": note}, "labels": {"l": "x"}}, "data": value});
        let write = |object: Value| {
            store.write("/x", "ns", "a", |_| Ok(Write::Put(object))).unwrap();
        };
        write(object("first", 1));
        let (mut all, mut mine, mut other) = (
            store.subscribe(),
            store.subscribe_to("/x", &[]),
            store.subscribe_to("/y", &[]),
        );
        let mut woken = || {
            [&mut all, &mut mine, &mut other].map(|receiver| {
                let changed = receiver.has_changed().unwrap();
                receiver.mark_unchanged();
                changed
            })
        };
        write(object("second", 1));
        assert_eq!(woken(), [false, true, false]);
        write(object("second", 2));
        assert_eq!(woken(), [true, true, false]);
        store.write("/x", "ns", "a", |_| Ok(Write::Delete)).unwrap();
        assert_eq!(woken(), [true, true, false]);
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits")]
    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = std::env::temp_dir().join(format!("howdah-store-{}", meta::uuid()));
        std::fs::create_dir_all(&dir).unwrap();
        let store = Store::open(&dir).unwrap();
        for n in 0..3000 {
            put(&store, &format!("o{}", n % 7), json!(n));
        }
        store.write("/x", "ns", "o0", |_| Ok(Write::Delete)).unwrap();
        let (revision, objects) = (store.revision(), store.all("/x", Some("ns")));
        drop(store);
        let again = Store::open(&dir).unwrap();
        assert_eq!(
            (again.revision(), again.all("/x", Some("ns"))),
            (revision, objects)
        );
        std::fs::write(dir.join("store.log"), "{\"howdah-sandbox-store\":99}\n").unwrap();
        assert!(Store::open(&dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits")]
    #[test]
    fn a_line_that_a_crash_cut_off_is_left_out() {
        let dir = std::env::temp_dir().join(format!("howdah-store-{}", meta::uuid()));
        std::fs::create_dir_all(&dir).unwrap();
        let store = Store::open(&dir).unwrap();
        put(&store, "a", json!(1));
        drop(store);
        let path = dir.join("store.log");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"revision\": 9, \"key\": [\"/x\"");
        std::fs::write(&path, text).unwrap();
        assert_eq!(Store::open(&dir).unwrap().list("/x", None).1.len(), 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
