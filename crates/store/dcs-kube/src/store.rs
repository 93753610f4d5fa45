use std::sync::Arc;

use base64::Engine as _;
use howdah_dcs::{
    Answer, Cond, Key, KeyOp, LeaderSeen, LeaseDone, LeaseId, LeaseOp, Outcome, Refusal, Store, StoreError,
    View, Watcher,
    kubernetes::{CLAIM, INCARNATION, Layout, incarnation_of},
    observed::Attempt,
};
use howdah_http::Method;
use howdah_types::{BootTime, MemberName};
use parking_lot::Mutex as ShortLock;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::{
    hub::KubeHub,
    transport::{Body, Failure, Transport},
    watch::KubeWatcher,
};

impl KubeHub {
    /// A store with a connection of its own. Each thread has one.
    #[must_use]
    pub fn store(&self) -> KubeStore {
        KubeStore {
            transport: Arc::new(Mutex::new(Transport::new(Arc::clone(&self.api)))),
            layout: Arc::clone(&self.layout),
            hub: self.clone(),
            record: ShortLock::default(),
        }
    }
}

/// One cluster's keys in one Kubernetes namespace.
pub struct KubeStore {
    /// One connection, so one request at a time. tokio's lock, because it is held while the answer is awaited.
    transport: Arc<Mutex<Transport>>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) hub: KubeHub,
    /// What this store has last written of our pod. Stores of other threads read what may be older than that.
    record: ShortLock<Option<(LeaseId, String)>>,
}

impl KubeStore {
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        kind: Body,
        body: &Value,
        deadline: BootTime,
    ) -> Result<Value, Failure> {
        match howdah_http::timeout_at(deadline, self.transport.lock()).await {
            Ok(mut transport) => transport.request(method, path, kind, body, deadline).await,
            Err(_) => Err(Failure::NotDone("another request is still under way".into())),
        }
    }

    pub(crate) fn maps_path(&self) -> String {
        let (_, resource) = self.layout.kind();
        format!("/api/v1/namespaces/{}/{resource}", self.layout.namespace)
    }

    /// One text of a Secret in the cluster's namespace; `None`: there is no such Secret or no such key.
    ///
    /// # Errors
    /// The API server does not answer or refuses.
    pub async fn secret(
        &self,
        name: &str,
        key: &str,
        deadline: BootTime,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.layout.namespace);
        match self
            .request(Method::GET, &path, Body::None, &Value::Null, deadline)
            .await
        {
            Ok(secret) => Ok(secret["data"][key]
                .as_str()
                .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())),
            Err(Failure::NotFound) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    fn pods_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.layout.namespace)
    }

    pub(crate) fn object_path(&self, name: &str) -> String {
        format!("{}/{name}", self.maps_path())
    }

    pub(crate) fn new_object(&self, name: &str, annotations: Map<String, Value>) -> Value {
        let mut annotations = annotations;
        annotations.retain(|_, value| !value.is_null());
        json!({
            "apiVersion": "v1",
            "kind": self.layout.kind().0,
            "metadata": {
                "name": name,
                "namespace": self.layout.namespace,
                "labels": self.layout.all_labels(),
                "annotations": annotations,
            },
        })
    }

    async fn run_lease(&self, op: &LeaseOp, deadline: BootTime) -> Result<Outcome<LeaseDone>, Failure> {
        let (attempt, lease) = match op {
            LeaseOp::Grant { ttl } => return Ok(self.grant(*ttl)),
            LeaseOp::KeepAlive { lease } => {
                return Ok(match self.hub.ttl(*lease) {
                    Some(ttl) => Outcome::Done(LeaseDone::Renewed {
                        ttl,
                        leader: LeaderSeen::NotRead,
                    }),
                    None => Outcome::Refused(Refusal::NoLease),
                });
            }
            // A lease is nothing in the store before it leads, and a leader releases.
            LeaseOp::Revoke { .. } => return Ok(Outcome::Done(LeaseDone::Ended)),
            LeaseOp::Renew { lease, .. } => (Attempt::to_renew(*lease, self.hub.ttl(*lease)), lease),
            LeaseOp::Acquire { me, lease } => {
                let attempt = Attempt::to_acquire(me.clone(), *lease, self.hub.ttl(*lease));
                (attempt, lease)
            }
            LeaseOp::Release { lease } => (Attempt::to_release(*lease, self.hub.ttl(*lease)), lease),
        };
        self.attempt(attempt, *lease, deadline).await
    }

    async fn run_write(&self, op: &KeyOp, deadline: BootTime) -> Result<Outcome<u64>, Failure> {
        match op {
            KeyOp::PutMember { me, lease, record } => {
                *self.record.lock() = Some((*lease, record.clone()));
                let body = self
                    .layout
                    .member_metadata(*lease, record, self.hub.other_leads(*lease));
                self.patch_pod(me, &body, deadline).await
            }
            KeyOp::Claim { lease } => self.claim(*lease, deadline).await,
            KeyOp::Put { document, .. } if document.key() == Key::Status => {
                // Only the keeper writes the object that holds the lease: it takes this along.
                self.hub.lock().status = Some(document.text().to_owned());
                Ok(Outcome::Done(0))
            }
            KeyOp::Put { document, .. } if document.key() == Key::Failsafe => {
                self.hub.lock().failsafe = Some(Some(document.text().to_owned()));
                Ok(Outcome::Done(0))
            }
            KeyOp::Delete {
                key: Key::Failsafe, ..
            } => {
                self.hub.lock().failsafe = Some(None);
                Ok(Outcome::Done(0))
            }
            KeyOp::Put { document, cond } => {
                let key = document.key();
                let annotations = self.layout.annotations_of(key, Some(document.text()));
                self.put(key, annotations, *cond, deadline).await
            }
            KeyOp::Delete { key, cond } => {
                let annotations = self.layout.annotations_of(*key, None);
                self.put(*key, annotations, *cond, deadline).await
            }
        }
    }

    async fn patch_pod(
        &self,
        name: &MemberName,
        body: &Value,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, Failure> {
        let path = format!("{}/{name}", self.pods_path());
        match self
            .request(Method::PATCH, &path, Body::MergePatch, body, deadline)
            .await
        {
            Ok(answer) => Ok(written(&answer)),
            Err(Failure::NotFound) => Ok(Outcome::Failed(format!("there is no pod {name}"))),
            Err(other) => Err(other),
        }
    }

    /// Claims the bootstrap for this life. The pod says first which life it is: a claim of an unknown life is no claim.
    async fn claim(&self, lease: LeaseId, deadline: BootTime) -> Result<Outcome<u64>, Failure> {
        let Some(me) = &self.hub.me else {
            return Ok(Outcome::Failed("only a member can claim the bootstrap".into()));
        };
        let life = incarnation_of(lease);
        let body = json!({"metadata": {"annotations": {INCARNATION: life}}});
        self.patch_pod(me, &body, deadline).await?;
        let mut annotations = Map::new();
        annotations.insert("initialize".into(), json!(""));
        annotations.insert(CLAIM.into(), json!(life));
        let name = self.layout.object_of(Key::Initialize);
        let Some(object) = self.get(&name, deadline).await? else {
            return self.create(&name, annotations, deadline).await;
        };
        let found = object["metadata"]["annotations"]["initialize"].as_str();
        let claim = object["metadata"]["annotations"][CLAIM].as_str();
        match (found, claim) {
            (None, _) => {}
            (Some(""), Some(claim)) if claim == life => return Ok(written(&object)),
            (Some(""), Some(claim)) if !self.lives(claim, deadline).await? => {}
            _ => return Ok(Outcome::Refused(Refusal::Condition)),
        }
        self.patch_at(&name, annotations, version_of(&object), deadline)
            .await
    }

    /// Whether some pod is this life.
    async fn lives(&self, life: &str, deadline: BootTime) -> Result<bool, Failure> {
        let (_, pods) = self.list(&self.pods_path(), deadline).await?;
        Ok(pods
            .iter()
            .any(|pod| pod["metadata"]["annotations"][INCARNATION].as_str() == Some(life)))
    }

    /// Whether the key is a claim of a life that is over, which is as good as absent.
    async fn is_dead_claim(&self, key: Key, object: &Value, deadline: BootTime) -> Result<bool, Failure> {
        let annotations = &object["metadata"]["annotations"];
        match annotations[CLAIM].as_str() {
            Some(claim) if key == Key::Initialize && annotations["initialize"] == "" => {
                Ok(!self.lives(claim, deadline).await?)
            }
            _ => Ok(false),
        }
    }

    async fn put(
        &self,
        key: Key,
        annotations: Map<String, Value>,
        cond: Cond,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, Failure> {
        let name = self.layout.object_of(key);
        if let Cond::Rev(rev) = cond
            && rev > 0
        {
            return self.patch_at(&name, annotations, rev, deadline).await;
        }
        match self.get(&name, deadline).await? {
            None => self.create(&name, annotations, deadline).await,
            Some(object)
                if cond != Cond::Always
                    && self.layout.has(key, &object)
                    && !self.is_dead_claim(key, &object, deadline).await? =>
            {
                Ok(Outcome::Refused(Refusal::Condition))
            }
            Some(_) if cond == Cond::Always => {
                let body = json!({"metadata": {"annotations": annotations}});
                let path = self.object_path(&name);
                let answer = self
                    .request(Method::PATCH, &path, Body::MergePatch, &body, deadline)
                    .await?;
                Ok(written(&answer))
            }
            Some(object) => {
                self.patch_at(&name, annotations, version_of(&object), deadline)
                    .await
            }
        }
    }

    async fn get(&self, name: &str, deadline: BootTime) -> Result<Option<Value>, Failure> {
        let path = self.object_path(name);
        match self
            .request(Method::GET, &path, Body::None, &Value::Null, deadline)
            .await
        {
            Ok(object) => Ok(Some(object)),
            Err(Failure::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn create(
        &self,
        name: &str,
        annotations: Map<String, Value>,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, Failure> {
        let body = self.new_object(name, annotations);
        if self.layout.routing.is_some() && name == self.layout.object_of(Key::Config) {
            self.keep_endpoints(name, deadline).await?;
        }
        match self
            .request(Method::POST, &self.maps_path(), Body::Json, &body, deadline)
            .await
        {
            Ok(answer) => Ok(written(&answer)),
            Err(Failure::Conflict) => Ok(Outcome::Refused(Refusal::Condition)),
            Err(other) => Err(other),
        }
    }

    /// Endpoints without a Service are removed when the controllers of Kubernetes start: as Patroni, a Service without addresses is
    /// made for those of the configuration. An account that may not do so goes without.
    async fn keep_endpoints(&self, name: &str, deadline: BootTime) -> Result<(), Failure> {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": self.layout.namespace, "labels": self.layout.all_labels()},
            "spec": {"clusterIP": "None"},
        });
        let path = format!("/api/v1/namespaces/{}/services", self.layout.namespace);
        match self
            .request(Method::POST, &path, Body::Json, &service, deadline)
            .await
        {
            Ok(_) | Err(Failure::Conflict) => Ok(()),
            Err(Failure::Forbidden(reason)) => {
                tracing::warn!(
                    reason,
                    "The Service {name} was not created: Kubernetes may remove the Endpoints with the cluster's configuration when \
                     its controllers start."
                );
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    async fn patch_at(
        &self,
        name: &str,
        annotations: Map<String, Value>,
        version: u64,
        deadline: BootTime,
    ) -> Result<Outcome<u64>, Failure> {
        let body = json!({"metadata": {"resourceVersion": version.to_string(), "annotations": annotations}});
        let path = self.object_path(name);
        match self
            .request(Method::PATCH, &path, Body::MergePatch, &body, deadline)
            .await
        {
            Ok(answer) => Ok(written(&answer)),
            Err(Failure::Conflict | Failure::NotFound) => Ok(Outcome::Refused(Refusal::Condition)),
            Err(other) => Err(other),
        }
    }

    async fn list(&self, path: &str, deadline: BootTime) -> Result<(u64, Vec<Value>), Failure> {
        let path = format!("{path}?labelSelector={}", self.layout.selector());
        let mut answer = self
            .request(Method::GET, &path, Body::None, &Value::Null, deadline)
            .await?;
        let rev = version_of(&answer);
        match answer["items"].take() {
            Value::Array(items) if rev > 0 => Ok((rev, items)),
            _ => Err(Failure::Unknown("a list without items or version".into())),
        }
    }

    async fn read_all(&self, deadline: BootTime) -> Result<View, Failure> {
        // One list of these objects is one consistent state of everything that is decided upon, and the record is judged
        // by that same state; what pods say of themselves is advice.
        let sent = howdah_clock::now();
        let (rev, mut maps) = self.list(&self.maps_path(), deadline).await?;
        let leader = self.layout.leader_object();
        if !maps.iter().any(|map| map["metadata"]["name"] == leader.as_str()) {
            // It may have lost its labels.
            maps.extend(self.get(&leader, deadline).await?);
        }
        let held = match maps.iter().find(|map| map["metadata"]["name"] == leader.as_str()) {
            Some(object) => self.saw(object, sent)?.1,
            None => {
                self.hub.absent(howdah_clock::now());
                false
            }
        };
        let (_, pods) = self.list(&self.pods_path(), deadline).await?;
        self.mend_labels(&pods, deadline).await;
        if let Some(me) = &self.hub.me {
            let own = pods.iter().find(|pod| pod["metadata"]["name"] == me.as_str());
            self.hub.note_pod(own);
        }
        let view = self.layout.view(rev, &maps, &pods, held);
        if view.initialize.is_none() {
            self.refuse_other_kind(deadline).await?;
        }
        Ok(view)
    }

    /// Whether the cluster's state is in objects of the other kind and not in ours, as far as we may look.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn is_of_other_kind(&self, deadline: BootTime) -> Result<bool, StoreError> {
        let ours = self
            .get(&self.layout.object_of(Key::Initialize), deadline)
            .await?;
        if ours.is_some_and(|object| self.layout.has(Key::Initialize, &object)) {
            return Ok(false);
        }
        Ok(self.other_kind(deadline).await?.is_some())
    }

    /// The path of the object that says so.
    async fn other_kind(&self, deadline: BootTime) -> Result<Option<String>, Failure> {
        let other = self.layout.of_other_kind();
        let (_, resource) = other.kind();
        let name = other.object_of(Key::Initialize);
        let path = format!("/api/v1/namespaces/{}/{resource}/{name}", self.layout.namespace);
        match self
            .request(Method::GET, &path, Body::None, &Value::Null, deadline)
            .await
        {
            Ok(object) if other.has(Key::Initialize, &object) => Ok(Some(format!("{resource}/{name}"))),
            // Who may not look there did not write there either.
            Ok(_) | Err(Failure::NotFound | Failure::Forbidden(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A cluster whose state is in objects of the other kind has a leader there: a second one here would be one too many.
    async fn refuse_other_kind(&self, deadline: BootTime) -> Result<(), Failure> {
        let Some(object) = self.other_kind(deadline).await? else {
            return Ok(());
        };
        Err(Failure::Forbidden(format!(
            "the state of this cluster is in {object}: set kubernetes.use_endpoints as its other members have it, or stop all of \
             them and delete that object"
        )))
    }

    /// Services find the primary by its pod's label. A label of our pod that was changed is put back at once; the
    /// change has woken the watch, so this read follows it. Should it fail, the next read tries again.
    async fn mend_labels(&self, pods: &[Value], deadline: BootTime) {
        let (Some((lease, record)), Some(me)) = (self.record.lock().clone(), &self.hub.me) else {
            return;
        };
        let body = self
            .layout
            .member_metadata(lease, &record, self.hub.other_leads(lease));
        let Some(pod) = pods.iter().find(|pod| pod["metadata"]["name"] == me.as_str()) else {
            return;
        };
        let have = &pod["metadata"]["labels"];
        let is_right = |wanted: &Map<String, Value>| wanted.iter().all(|(name, value)| have[name] == *value);
        if body["metadata"]["labels"].as_object().is_some_and(is_right) {
            return;
        }
        let mended = self.patch_pod(me, &body, deadline).await;
        tracing::warn!(
            done = mended.is_ok(),
            "The labels of our pod were changed; they are put back."
        );
    }
}

fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn written(answer: &Value) -> Outcome<u64> {
    Outcome::Done(version_of(answer))
}

fn outcome<T>(result: Result<Outcome<T>, Failure>) -> Outcome<T> {
    match result {
        Ok(outcome) => outcome,
        Err(Failure::NotDone(reason) | Failure::Forbidden(reason)) => Outcome::Failed(reason),
        Err(Failure::Unknown(reason)) => Outcome::Unknown(reason),
        Err(Failure::Conflict) => Outcome::Failed("another client was faster".into()),
        Err(Failure::NotFound) => Outcome::Failed("there is no such object".into()),
    }
}

impl Store for KubeStore {
    fn lease<'a>(&'a self, op: &'a LeaseOp, deadline: BootTime) -> Answer<'a, Outcome<LeaseDone>> {
        Box::pin(async move { outcome(self.run_lease(op, deadline).await) })
    }

    fn write<'a>(&'a self, op: &'a KeyOp, deadline: BootTime) -> Answer<'a, Outcome<u64>> {
        Box::pin(async move { outcome(self.run_write(op, deadline).await) })
    }

    fn read(&self, deadline: BootTime) -> Answer<'_, Result<View, StoreError>> {
        Box::pin(async move { self.read_all(deadline).await.map_err(Into::into) })
    }

    fn watch(&self) -> Box<dyn Watcher> {
        let paths = [self.maps_path(), self.pods_path()]
            .map(|path| format!("{path}?watch=true&labelSelector={}", self.layout.selector()));
        Box::new(KubeWatcher::new(
            Arc::clone(&self.hub.api),
            self.hub.clone(),
            Arc::clone(&self.layout),
            paths,
        ))
    }
}
