use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A member's tags, as written in its configuration and published in its record.
///
/// Known tags are read through methods that apply Patroni's rules; everything else is kept for `?tag_x=y`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(Map<String, Value>);

impl Tags {
    /// Wraps the `tags` section.
    #[must_use]
    pub fn new(tags: Map<String, Value>) -> Self {
        Tags(tags)
    }

    /// The value of any tag.
    #[must_use]
    pub fn get(&self, tag: &str) -> Option<&Value> {
        self.0.get(tag)
    }

    /// May never become leader: `nofailover`, or a `failover_priority` of zero or less unless `nofailover` is
    /// explicitly false (the boolean wins over the number).
    #[must_use]
    pub fn nofailover(&self) -> bool {
        self.excluded("nofailover", "failover_priority")
    }

    /// Higher wins between members that have the same WAL. 1 unless set; 0 for a `nofailover` member.
    #[must_use]
    pub fn failover_priority(&self) -> i64 {
        self.priority("nofailover", "failover_priority")
    }

    /// May never be a synchronous standby.
    #[must_use]
    pub fn nosync(&self) -> bool {
        self.excluded("nosync", "sync_priority")
    }

    /// Higher wins when the synchronous standby is chosen. 1 unless set; 0 for a `nosync` member.
    #[must_use]
    pub fn sync_priority(&self) -> i64 {
        self.priority("nosync", "sync_priority")
    }

    /// Read-only health checks answer 503.
    #[must_use]
    pub fn noloadbalance(&self) -> bool {
        self.flag("noloadbalance").unwrap_or(false)
    }

    /// Preferred source of base backups.
    #[must_use]
    pub fn clonefrom(&self) -> bool {
        self.flag("clonefrom").unwrap_or(false)
    }

    /// Does not stream: no `primary_conninfo`, no slot.
    #[must_use]
    pub fn nostream(&self) -> bool {
        self.flag("nostream").unwrap_or(false)
    }

    /// The member to stream from instead of the leader.
    #[must_use]
    pub fn replicatefrom(&self) -> Option<&str> {
        self.0
            .get("replicatefrom")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// What is published: false booleans are left out unless the paired priority is given (Patroni's rule).
    #[must_use]
    pub fn published(&self) -> Map<String, Value> {
        let keep = |key: &str, value: &Value| match key {
            "nofailover" => value != &Value::Bool(false) || self.0.contains_key("failover_priority"),
            "nosync" => value != &Value::Bool(false) || self.0.contains_key("sync_priority"),
            "clonefrom" | "noloadbalance" | "nostream" => value != &Value::Bool(false),
            _ => !value.is_null(),
        };
        self.0
            .iter()
            .filter(|(k, v)| keep(k, v))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    fn flag(&self, tag: &str) -> Option<bool> {
        match self.0.get(tag)? {
            Value::Bool(b) => Some(*b),
            Value::Number(n) => n.as_i64().map(|n| n != 0),
            Value::String(s) => match s.to_ascii_lowercase().as_str() {
                "on" | "true" | "yes" | "1" => Some(true),
                "off" | "false" | "no" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn number(&self, tag: &str) -> Option<i64> {
        match self.0.get(tag)? {
            Value::Number(n) => n.as_i64(),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        }
    }

    fn excluded(&self, flag: &str, priority: &str) -> bool {
        self.flag(flag)
            .unwrap_or_else(|| self.number(priority).is_some_and(|p| p <= 0))
    }

    fn priority(&self, flag: &str, priority: &str) -> i64 {
        if self.excluded(flag, priority) {
            0
        } else {
            self.number(priority).filter(|p| *p > 0).unwrap_or(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tags(value: Value) -> Tags {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_boolean_wins_over_the_priority() {
        assert!(tags(json!({"nofailover": true, "failover_priority": 5})).nofailover());
        assert!(!tags(json!({"nofailover": false, "failover_priority": 0})).nofailover());
        assert!(tags(json!({"failover_priority": 0})).nofailover());
        assert_eq!(tags(json!({"failover_priority": "3"})).failover_priority(), 3);
        assert_eq!(Tags::default().failover_priority(), 1);
    }

    #[test]
    fn false_flags_are_not_published() {
        let published = tags(json!({"clonefrom": false, "nofailover": false, "zone": "a"})).published();
        assert_eq!(Value::Object(published), json!({"zone": "a"}));
    }
}
