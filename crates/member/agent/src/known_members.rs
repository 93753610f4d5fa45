//! The addresses of the other members, kept in a file beside the data directory: after an outage of the store that was longer than a lease it shows
//! none, and an agent that was started meanwhile must know whom to ask before it leads.

use std::{collections::BTreeMap, time::Duration};

use howdah_clock::now;
use howdah_ha::KnownMember;
use howdah_postgres::Server;
use howdah_types::MemberName;
use serde_json::{Map, Value, json};

use crate::{blocking::blocking, note::Note};

/// A decision waits this long for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes the file when it is to say something else.
#[derive(Default)]
pub(crate) struct KnownMembers {
    written: Option<String>,
}

impl KnownMembers {
    /// Keeps these members. A file that cannot be written is tried again with the next change.
    pub(crate) async fn keep(&mut self, server: &Server, known: &BTreeMap<MemberName, KnownMember>) {
        let text = to_text(known);
        if self.written.as_ref() == Some(&text) {
            return;
        }
        self.written = Some(text.clone());
        let note = Note::members(server);
        let done = blocking("keeping the other members", move || note.mark(&[text]));
        let why = match howdah_http::timeout_at(now() + PATIENCE, done).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the disk does not answer".to_owned(),
        };
        tracing::warn!("The addresses of the other members were not kept for the next start: {why}.");
    }
}

/// The members that an earlier life of this agent knew. What cannot be read is as good as none.
pub(crate) fn kept(server: &Server) -> BTreeMap<MemberName, KnownMember> {
    let lines = Note::members(server).lines();
    lines.first().map(|text| from_text(text)).unwrap_or_default()
}

fn to_text(known: &BTreeMap<MemberName, KnownMember>) -> String {
    let members: Map<String, Value> = known
        .iter()
        .map(|(name, member)| (name.to_string(), json!(member.api)))
        .collect();
    Value::Object(members).to_string()
}

fn from_text(text: &str) -> BTreeMap<MemberName, KnownMember> {
    let members: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    members
        .into_iter()
        .filter_map(|(name, api)| {
            let api = api.as_str()?.to_owned();
            Some((MemberName::new(name).ok()?, KnownMember { api, gone: None }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_they_were_written() {
        let name = MemberName::new("b").unwrap();
        let member = KnownMember {
            api: "http://h:1".to_owned(),
            gone: None,
        };
        let known = BTreeMap::from([(name, member)]);
        assert_eq!(from_text(&to_text(&known)), known);
        assert!(from_text("nonsense").is_empty());
    }
}
