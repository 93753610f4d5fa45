use howdah_types::{BootTime, Lsn, Origins, PgState, Role, Tags, Timeline};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// By this extra field of a member's record our agents know each other; Patroni's pass it over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HowdahMark {
    /// The agent's version.
    pub version: String,
    /// The revision of the dynamic configuration that is in effect: what needs a restart is known for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<u64>,
    /// The revision of the dynamic configuration that PostgreSQL does not start with here: no other member tries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unstartable: Option<u64>,
    /// Which promotions began the timelines of its WAL.
    #[serde(default, skip_serializing_if = "Origins::is_empty")]
    pub origins: Origins,
    /// It does not rely on promises that were asked for before this moment of its clock (nanoseconds since its machine started): it leads
    /// by the store, or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<BootTime>,
    /// The length of its lease as the store granted it, in milliseconds: the agent that goes on with the lease must not believe in
    /// more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How the member differs from what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the defaults of the image ask for and this machine does not have. The user has asked for none of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machine: Vec<String>,
    /// How the cluster's archive is, as the leader sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveMark>,
}

/// How an archive is. Times are RFC 3339, to the second. Nothing in it changes with every segment, since each change is a write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveMark {
    /// What is wrong, each a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// When the newest backup that can be restored was finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<String>,
    /// From when on every moment can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable_from: Option<String>,
    /// When a drill has restored a backup last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<String>,
    /// Why the last drill has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_proved: Option<String>,
}

/// A member's record (`members/<name>`), in Patroni's form. Fields that we do not know are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// `postgres://host:port/database`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub conn_url: String,
    /// `http[s]://host:port/patroni`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_url: String,
    /// The state of its PostgreSQL.
    #[serde(default)]
    pub state: PgState,
    /// What it does.
    #[serde(default)]
    pub role: Role,
    /// The agent's version, as Patroni counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// An extra address for service discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// `false` until a checkpoint exists on the timeline of a promotion; absent means done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_after_promote: Option<bool>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "tags_are_empty")]
    pub tags: Tags,
    /// Some parameter takes effect only after a restart.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pending_restart: bool,
    /// Which: `{name: {old_value, new_value}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_restart_reason: Option<Map<String, Value>>,
    /// Primary: flushed; replica: the larger of received and replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xlog_location: Option<Lsn>,
    /// Replica: received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_lsn: Option<Lsn>,
    /// Replica: replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_lsn: Option<Lsn>,
    /// `streaming` or `in archive recovery`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_state: Option<String>,
    /// The timeline it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// A restart planned for later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_restart: Option<Value>,
    /// It knows that the cluster is paused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pause: bool,
    /// Present when the agent is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub howdah: Option<HowdahMark>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn tags_are_empty(tags: &Tags) -> bool {
    tags.published().is_empty()
}

impl Member {
    /// Which promotions began the timelines of its WAL; `None` of a member of Patroni's.
    #[must_use]
    pub fn origins(&self) -> Option<&Origins> {
        self.howdah.as_ref().map(|howdah| &howdah.origins)
    }

    /// The record as it is written. It has names for keys and no value that JSON has no form for; should that ever change,
    /// an empty object says that nothing is known of the member.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Parses a record; the form of Patroni before 1.0 (a bare URL) and garbage give a record without addresses.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(member) => member,
            Err(_) if text.starts_with("postgres") => Member::from_bare_url(text),
            Err(_) => Member {
                state: PgState::Unknown,
                ..Member::default()
            },
        }
    }

    fn from_bare_url(text: &str) -> Self {
        let (conn_url, query) = text.split_once('?').unwrap_or((text, ""));
        let api_url = query.strip_prefix("application_name=").unwrap_or_default();
        Member {
            conn_url: conn_url.into(),
            api_url: api_url.into(),
            state: PgState::Unknown,
            ..Member::default()
        }
    }

    /// Host and port of its PostgreSQL.
    #[must_use]
    pub fn address(&self) -> Option<(&str, u16)> {
        let rest = self.conn_url.split_once("://")?.1;
        let authority = rest.split('/').next()?;
        let authority = authority.rsplit_once('@').map_or(authority, |(_, a)| a);
        match authority.rsplit_once(':') {
            Some((host, port)) => Some((host.trim_matches(['[', ']']), port.parse().ok()?)),
            None => Some((authority, 5432)),
        }
    }

    /// The agent's REST address without a path: `http://host:port`.
    #[must_use]
    pub fn api_base(&self) -> Option<&str> {
        let start = self.api_url.find("://")? + 3;
        let end = self
            .api_url
            .get(start..)?
            .find('/')
            .map_or(self.api_url.len(), |i| start + i);
        self.api_url.get(..end)
    }

    /// Whether PostgreSQL runs there, as far as the record says.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == PgState::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by `script/fuzz`.
    #[test]
    fn numbers_of_others_are_kept_to_the_last_digit() {
        let member = Member::parse(&format!(r#"{{"x": {}}}"#, "1".repeat(3) + &"3".repeat(119)));
        assert_eq!(Member::parse(&member.to_json()).to_json(), member.to_json());
        let exact = Member::parse(r#"{"x": 13333333333333333e105}"#);
        assert_eq!(Member::parse(&exact.to_json()).to_json(), exact.to_json());
    }

    #[test]
    fn a_patroni_record_survives_a_round_trip() {
        let text = r#"{"conn_url":"postgres://127.0.0.1:5433/postgres","api_url":"http://127.0.0.1:8009/patroni","state":"running","role":"replica","version":"4.1.5","tags":{"clonefrom":true},"xlog_location":83887480,"replication_state":"streaming","timeline":2,"site":"a"}"#;
        let member = Member::parse(text);
        assert_eq!(member.address(), Some(("127.0.0.1", 5433)));
        assert_eq!(member.api_base(), Some("http://127.0.0.1:8009"));
        assert!(member.tags.clonefrom() && member.is_running() && member.howdah.is_none());
        let again: Value = serde_json::to_value(&member).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn garbage_is_a_record_without_addresses() {
        assert_eq!(Member::parse("{").state, PgState::Unknown);
        let old = Member::parse("postgres://u@h:1/db?application_name=http://h:8008/patroni");
        assert_eq!(old.api_base(), Some("http://h:8008"));
        assert_eq!(old.address(), Some(("h", 1)));
    }
}
