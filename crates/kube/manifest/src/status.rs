use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Upstream's words in `PostgresClusterStatus`.
pub mod phase {
    /// The cluster is being made.
    pub const CREATING: &str = "Creating";
    /// A change is being applied.
    pub const UPDATING: &str = "Updating";
    /// The last change could not be applied.
    pub const UPDATE_FAILED: &str = "UpdateFailed";
    /// A periodic comparison failed.
    pub const SYNC_FAILED: &str = "SyncFailed";
    /// The cluster could not be made.
    pub const CREATE_FAILED: &str = "CreateFailed";
    /// All is as the manifest says.
    pub const RUNNING: &str = "Running";
    /// The manifest cannot be acted on.
    pub const INVALID: &str = "Invalid";
}

/// `status` of a `postgresql` object: upstream's one word, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// One of [`phase`].
    #[serde(rename = "PostgresClusterStatus")]
    pub phase: String,
    /// The generation that the rest speaks of.
    pub observed_generation: i64,
    /// `Available`, `Ready`, `FullyApplied`, `Progressing`.
    pub conditions: Vec<Condition>,
    /// The members.
    pub members: Vec<MemberStatus>,
    /// The primary's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The major that runs; differs from the manifest's where that one is not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How the cluster differs from the manifest, each a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the defaults of the image ask for and the machine lacks, each a sentence. The manifest asks for none of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machine: Vec<String>,
    /// The steps of the work under way, for people and progress displays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Value>,
    /// The version of the pod template that the cluster runs with.
    pub template_version: u32,
    /// What other versions wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A condition in Kubernetes' form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Since when.
    pub last_transition_time: String,
    /// The generation it speaks of.
    pub observed_generation: i64,
}

/// A member as the operator last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberStatus {
    /// The pod's name.
    pub name: String,
    /// `primary`, `replica`, …; empty when it does not answer.
    pub role: String,
    /// `running`, `streaming`, `creating replica`, …
    pub state: String,
    /// Bytes behind the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// The timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u64>,
    /// A restart is needed for some parameter.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pending_restart: bool,
}

impl Status {
    /// Reads a status, also upstream's oldest form, a bare word.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        match value {
            Value::String(word) => Status {
                phase: word.clone(),
                ..Status::default()
            },
            other => serde_json::from_value(other.clone()).unwrap_or_default(),
        }
    }

    /// The condition of this name.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether a condition is `True` for this generation.
    #[must_use]
    pub fn holds(&self, kind: &str, generation: i64) -> bool {
        self.condition(kind)
            .is_some_and(|c| c.status == "True" && c.observed_generation >= generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bare_word_is_a_status() {
        assert_eq!(Status::read(&json!("Running")).phase, "Running");
        let status = Status::read(&json!({"PostgresClusterStatus": "Running", "foreign": 1}));
        assert_eq!(status.other["foreign"], 1);
        assert!(!status.holds("Ready", 1));
    }
}
