//! The leader's record on Kubernetes: what `howdah_dcs::observed` wants asked, as requests for one object.

use std::time::Duration;

use howdah_clock::now;
use howdah_dcs::{
    LeaderSeen, LeaseDone, LeaseId, Outcome,
    kubernetes::{INCARNATION, LENGTH, TERM, incarnation_of},
    observed::{Attempt, Change, Next, Record, Reply, Request},
};
use howdah_http::Method;
use howdah_types::BootTime;
use serde_json::{Map, Value, json};

use crate::{
    store::KubeStore,
    transport::{Body, Failure},
};

impl KubeStore {
    /// Begins a lease: a number of its own. Nothing is written, since it means nothing before it leads.
    pub(crate) fn grant(&self, ttl: Duration) -> Outcome<LeaseDone> {
        let mut bytes = [0; 8];
        if let Err(error) = getrandom::fill(&mut bytes) {
            return Outcome::Failed(format!("no random number: {error}"));
        }
        // Zero means "no lease" to the guard.
        let lease = LeaseId(u64::from_ne_bytes(bytes) | 1);
        self.hub.set_ttl(lease, ttl);
        Outcome::Done(LeaseDone::Granted { lease, ttl })
    }

    /// Renews, takes or gives back the record, by as many requests as that needs.
    pub(crate) async fn attempt(
        &self,
        mut attempt: Attempt,
        lease: LeaseId,
        deadline: BootTime,
    ) -> Result<Outcome<LeaseDone>, Failure> {
        let mut next = attempt.begin(self.hub.known());
        loop {
            match next {
                Next::Ask(request) => {
                    let reply = self.ask(&request, deadline).await?;
                    next = attempt.hear(&request, reply);
                }
                Next::End(outcome) => {
                    let leads_not = matches!(&outcome, Outcome::Done(LeaseDone::Renewed { leader: LeaderSeen::Read(leader), .. })
                        if leader.as_ref().and_then(|leader| leader.lease) != Some(lease));
                    if leads_not {
                        self.hub.forget_alongside();
                    }
                    return Ok(outcome);
                }
            }
        }
    }

    async fn ask(&self, request: &Request, deadline: BootTime) -> Result<Reply, Failure> {
        let path = self.object_path(&self.layout.leader_object());
        let sent = now();
        let answer = match request {
            Request::Read => {
                self.request(Method::GET, &path, Body::None, &Value::Null, deadline)
                    .await
            }
            Request::Create => {
                let body = self.new_object(&self.layout.leader_object(), Map::new());
                self.request(Method::POST, &self.maps_path(), Body::Json, &body, deadline)
                    .await
            }
            Request::Swap { over, change } => {
                let mut body = json!({"metadata": {
                    "resourceVersion": over.version.to_string(),
                    // Without its labels the record is hidden from every list.
                    "labels": self.layout.all_labels(),
                    "annotations": self.annotations(over, change),
                }});
                if let Some(subsets) = self.subsets(change) {
                    body["subsets"] = subsets;
                }
                self.request(Method::PATCH, &path, Body::MergePatch, &body, deadline)
                    .await
            }
        };
        match (answer, request) {
            (Ok(object), _) => {
                let (record, held) = self.saw(&object, sent)?;
                Ok(Reply::Found { record, held })
            }
            (Err(Failure::NotFound), Request::Read) => {
                self.hub.absent(now());
                Ok(Reply::Absent {
                    held: self.hub.is_held(now()),
                })
            }
            (Err(Failure::NotFound), Request::Swap { .. })
            | (Err(Failure::Conflict), Request::Swap { .. } | Request::Create) => Ok(Reply::Conflict),
            (Err(other), _) => Err(other),
        }
    }

    /// Where the leader's Service leads from now on; `None`: that is not ours to say, or not known.
    fn subsets(&self, change: &Change) -> Option<Value> {
        let routing = self.layout.routing.as_ref()?;
        match change {
            Change::Renew { .. } => routing.subsets(&self.hub.pod().unwrap_or_default()),
            // Without an address of ours that of the last leader must not stay.
            Change::Take { .. } => {
                let pod = self.hub.pod().unwrap_or_default();
                Some(routing.subsets(&pod).unwrap_or_else(|| json!([])))
            }
            Change::GiveBack => Some(json!([])),
        }
    }

    /// A change, as annotations; what Patroni keeps in the same object goes along with renewals.
    fn annotations(&self, over: &Record, change: &Change) -> Map<String, Value> {
        match change {
            Change::Renew { lease, ttl } => {
                self.hub.set_ttl(*lease, *ttl);
                let mut annotations = self.hub.alongside(&self.layout);
                stamp(&mut annotations, *lease, *ttl);
                annotations
            }
            Change::Take { me, lease, ttl } => {
                // What an earlier leadership of ours wanted to have written is of the past.
                self.hub.forget_alongside();
                let mut annotations = Map::new();
                annotations.insert("leader".into(), json!(me));
                annotations.insert("transitions".into(), json!((over.transitions + 1).to_string()));
                annotations.insert(TERM.into(), json!(over.version.to_string()));
                stamp(&mut annotations, *lease, *ttl);
                let time = annotations["renewTime"].clone();
                annotations.insert("acquireTime".into(), time);
                annotations
            }
            Change::GiveBack => {
                let mut annotations = self.hub.alongside(&self.layout);
                annotations.insert("leader".into(), Value::Null);
                annotations.insert(INCARNATION.into(), Value::Null);
                annotations.insert(LENGTH.into(), Value::Null);
                annotations
            }
        }
    }

    /// Notes a record. One without a version cannot be swapped: an update at version 0 would be unconditional.
    pub(crate) fn saw(&self, object: &Value, sent: BootTime) -> Result<(Record, bool), Failure> {
        let record = self.layout.record(object);
        if record.version == 0 {
            return Err(Failure::Unknown("an answer without a resourceVersion".into()));
        }
        let sight = self.hub.see(record.clone(), sent, now());
        Ok((record, sight.is_held()))
    }
}

/// What a renewal writes. The wall clock is for people and as a sign of change; no decision rests on it.
fn stamp(annotations: &mut Map<String, Value>, lease: LeaseId, ttl: Duration) {
    let time = format!("{:.6}+00:00", jiff::Timestamp::now()).replace("Z+", "+");
    annotations.insert("renewTime".into(), json!(time));
    annotations.insert("ttl".into(), json!(ttl.as_secs().to_string()));
    annotations.insert(LENGTH.into(), json!(format!("{}@{time}", ttl.as_secs())));
    annotations.insert(
        INCARNATION.into(),
        json!(format!("{}@{time}", incarnation_of(lease))),
    );
}
