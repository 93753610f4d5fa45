//! The leader's record: taken, renewed and given back by swaps on its resourceVersion.

use std::time::Duration;

use howdah_clock::now;
use howdah_dcs::{Done, LeaderKey, LeaseId, Outcome, Refusal, Term};
use howdah_http::Method;
use howdah_types::{BootTime, MemberName};
use serde_json::{Map, Value, json};

use crate::{
    layout::{INCARNATION, TERM, incarnation_of},
    observed::Record,
    store::KubeStore,
    transport::{Body, Failure},
};

/// The length of a lease that nothing is known of.
const ADOPTED_TTL: Duration = Duration::from_secs(30);

impl KubeStore {
    /// Begins a lease: a number that nobody else has. Nothing is written, since it means nothing before it leads.
    pub(crate) fn grant(&self, ttl: Duration) -> Outcome {
        let mut bytes = [0; 8];
        if let Err(error) = getrandom::fill(&mut bytes) {
            return Outcome::Failed(format!("no random number: {error}"));
        }
        // Zero means "no lease" to the guard.
        let lease = LeaseId(u64::from_ne_bytes(bytes) | 1);
        self.hub.set_ttl(lease, ttl);
        Outcome::Done(Done::Lease { lease, ttl })
    }

    /// Renews the record if it is ours, and tells whose it is.
    pub(crate) async fn renew(&self, lease: LeaseId, deadline: BootTime) -> Result<Outcome, Failure> {
        let mut record = match self.hub.known() {
            Some(record) => Some(record),
            None => self.read_record(deadline).await?,
        };
        // A change by somebody who does not lead (a label, a comment) is no loss: read again and swap again.
        for _ in 0..4 {
            let Some(ours) = record.filter(|record| record.lease == Some(lease)) else {
                // What is known may be old; only a read can say that we do not lead.
                let fresh = self.read_record(deadline).await?;
                match fresh {
                    Some(fresh) if fresh.lease == Some(lease) => {
                        record = Some(fresh);
                        continue;
                    }
                    other => {
                        self.hub.forget_status();
                        return Ok(Outcome::Done(Done::Renewed {
                            ttl: self
                                .hub
                                .ttl(lease)
                                .unwrap_or(other.as_ref().map_or(ADOPTED_TTL, |record| record.ttl)),
                            leader: other.as_ref().and_then(leader_key),
                        }));
                    }
                }
            };
            // A lease that the guard has handed over goes on with the length that its record has.
            let ttl = self.hub.ttl_or(lease, ours.ttl);
            let mut annotations = self.hub.status(&self.layout);
            self.stamp(&mut annotations, lease, ttl);
            match self.swap(&ours, annotations, deadline).await {
                Ok(record) => {
                    return Ok(Outcome::Done(Done::Renewed {
                        ttl,
                        leader: leader_key(&record),
                    }));
                }
                Err(Failure::Conflict | Failure::NotFound) => record = self.read_record(deadline).await?,
                Err(other) => return Err(other),
            }
        }
        Ok(Outcome::Failed(
            "the record changes faster than it can be renewed".into(),
        ))
    }

    /// Takes the record if nobody holds it.
    pub(crate) async fn acquire(
        &self,
        me: &MemberName,
        lease: LeaseId,
        deadline: BootTime,
    ) -> Result<Outcome, Failure> {
        // A lease of unknown length is none: the keeper begins another.
        let Some(ttl) = self.hub.ttl(lease) else {
            return Ok(Outcome::Refused(Refusal::NoLease));
        };
        let (record, held) = match self.look(deadline).await? {
            Some(found) => found,
            None if self.hub.is_held(now()) => return Ok(Outcome::Refused(Refusal::Condition)),
            None => match self.create_record(deadline).await {
                Ok(found) => found,
                Err(Failure::Conflict) => return Ok(Outcome::Refused(Refusal::Condition)),
                Err(other) => return Err(other),
            },
        };
        match leader_key(&record) {
            Some(leader) if held || record.lease == Some(lease) => {
                return Ok(Outcome::Refused(Refusal::HasLeader(leader)));
            }
            // Deleted and made anew while somebody may still count on it.
            None if held => return Ok(Outcome::Refused(Refusal::Condition)),
            _ => {}
        }
        // What an earlier leadership of ours wanted to have written is of the past.
        self.hub.forget_status();
        let mut annotations = Map::new();
        annotations.insert("leader".into(), json!(me));
        annotations.insert("transitions".into(), json!((record.transitions + 1).to_string()));
        annotations.insert(TERM.into(), json!(record.version.to_string()));
        self.stamp(&mut annotations, lease, ttl);
        let time = annotations["renewTime"].clone();
        annotations.insert("acquireTime".into(), time);
        match self.swap(&record, annotations, deadline).await {
            Ok(_) => Ok(Outcome::Done(Done::Acquired {
                term: Term(record.version),
            })),
            Err(Failure::Conflict | Failure::NotFound) => Ok(Outcome::Refused(Refusal::Condition)),
            Err(other) => Err(other),
        }
    }

    /// Gives the record back if it is ours.
    pub(crate) async fn release(&self, lease: LeaseId, deadline: BootTime) -> Result<Outcome, Failure> {
        for _ in 0..4 {
            let Some(record) = self
                .read_record(deadline)
                .await?
                .filter(|record| record.lease == Some(lease))
            else {
                return Ok(Outcome::Refused(Refusal::Condition));
            };
            let mut annotations = self.hub.status(&self.layout);
            annotations.insert("leader".into(), Value::Null);
            annotations.insert(INCARNATION.into(), Value::Null);
            match self.swap(&record, annotations, deadline).await {
                Ok(record) => return Ok(Outcome::Done(Done::Written { rev: record.version })),
                Err(Failure::Conflict) => {}
                Err(Failure::NotFound) => return Ok(Outcome::Refused(Refusal::Condition)),
                Err(other) => return Err(other),
            }
        }
        Ok(Outcome::Failed(
            "the record changes faster than it can be given back".into(),
        ))
    }

    /// What a renewal writes. The wall clock is for people and as a sign of change; nobody computes with it.
    fn stamp(&self, annotations: &mut Map<String, Value>, lease: LeaseId, ttl: Duration) {
        let time = format!("{:.6}+00:00", jiff::Timestamp::now()).replace("Z+", "+");
        annotations.insert("renewTime".into(), json!(time));
        annotations.insert("ttl".into(), json!(ttl.as_secs().to_string()));
        annotations.insert(
            INCARNATION.into(),
            json!(format!("{}@{time}", incarnation_of(lease))),
        );
    }

    async fn swap(
        &self,
        record: &Record,
        annotations: Map<String, Value>,
        deadline: BootTime,
    ) -> Result<Record, Failure> {
        let body = json!({"metadata": {
            "resourceVersion": record.version.to_string(),
            // Whoever has taken the labels away has hidden the record from everybody who lists.
            "labels": self.layout.all_labels(),
            "annotations": annotations,
        }});
        let path = self.object_path(&self.layout.leader_object());
        let sent = now();
        let answer = self
            .request(Method::PATCH, &path, Body::MergePatch, &body, deadline)
            .await?;
        Ok(self.saw(&answer, sent)?.0)
    }

    async fn create_record(&self, deadline: BootTime) -> Result<(Record, bool), Failure> {
        let body = self.new_object(&self.layout.leader_object(), Map::new());
        let sent = now();
        let answer = self
            .request(Method::POST, &self.maps_path(), Body::Json, &body, deadline)
            .await?;
        self.saw(&answer, sent)
    }

    async fn read_record(&self, deadline: BootTime) -> Result<Option<Record>, Failure> {
        Ok(self.look(deadline).await?.map(|(record, _)| record))
    }

    /// Reads the record from a quorum, and whether it is held; `None` if the ConfigMap does not exist.
    async fn look(&self, deadline: BootTime) -> Result<Option<(Record, bool)>, Failure> {
        let path = self.object_path(&self.layout.leader_object());
        let sent = now();
        match self
            .request(Method::GET, &path, Body::None, &Value::Null, deadline)
            .await
        {
            Ok(object) => self.saw(&object, sent).map(Some),
            Err(Failure::NotFound) => {
                self.hub.absent(now());
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Notes a record. One without a version cannot be swapped: an update at version 0 would be unconditional.
    pub(crate) fn saw(&self, object: &Value, sent: BootTime) -> Result<(Record, bool), Failure> {
        let record = self.layout.record(object);
        if record.version == 0 {
            return Err(Failure::Unknown("an answer without a resourceVersion".into()));
        }
        let held = self.hub.see(record.clone(), sent, now());
        Ok((record, held))
    }
}

fn leader_key(record: &Record) -> Option<LeaderKey> {
    Some(LeaderKey {
        name: record.holder.clone()?,
        lease: record.lease,
        term: Term(record.term),
    })
}
