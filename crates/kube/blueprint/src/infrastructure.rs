//! Infrastructure roles: robots that every cluster has, by Secrets that the operator's configuration names.

use std::collections::BTreeMap;

use howdah_manifest::{Flag, is_reserved_role, is_role_name, role_flags};
use serde::Deserialize;
use serde_json::Value;

/// One of `infrastructure_roles_secrets`: a Secret, and where in it the roles are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InfrastructureSecret {
    /// `NAMESPACE/NAME`, or a name in the operator's namespace.
    pub secretname: String,
    /// The key of the user's name.
    pub userkey: String,
    /// The key of the password.
    pub passwordkey: String,
    /// The key of the role that the user is a member of.
    pub rolekey: String,
    /// The user's name, where the Secret has none.
    pub defaultuservalue: String,
    /// The role, where the Secret has none.
    pub defaultrolevalue: String,
    /// More of the role: `inrole`, `user_flags` and `db_parameters`, as YAML.
    pub details: String,
    /// The keys are numbered, `user1`, `user2` and so on.
    pub template: bool,
}

impl InfrastructureSecret {
    /// Upstream's older form, a Secret alone: `user1`, `password1`, `inrole1` and so on.
    #[must_use]
    pub fn numbered(secret: &str) -> Self {
        InfrastructureSecret {
            secretname: secret.to_owned(),
            userkey: "user".into(),
            passwordkey: "password".into(),
            rolekey: "inrole".into(),
            template: true,
            ..InfrastructureSecret::default()
        }
    }
}

/// A robot with a role in every cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InfrastructureRole {
    /// The role.
    pub name: String,
    /// Its password, the same in every cluster.
    pub password: String,
    /// Attributes.
    pub flags: Vec<Flag>,
    /// Roles it is a member of.
    pub member_of: Vec<String>,
    /// Parameters of the role.
    pub parameters: BTreeMap<String, String>,
}

/// What a ConfigMap of the Secret's name says of a user beside it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    inrole: Vec<String>,
    user_flags: Vec<String>,
    db_parameters: BTreeMap<String, Value>,
}

/// The roles in a Secret. `details` turns YAML into JSON, and `more` is the data of the ConfigMap of the same name. What is wrong
/// with one of them is said, and the others are read all the same.
#[must_use]
pub fn infrastructure_roles(
    of: &InfrastructureSecret,
    secret: &BTreeMap<String, String>,
    more: &BTreeMap<String, String>,
    yaml: impl Fn(&str) -> Result<Value, String>,
) -> (Vec<InfrastructureRole>, Vec<String>) {
    let (mut roles, mut wrong) = (Vec::<InfrastructureRole>::new(), Vec::new());
    let count = if of.template { 1..=secret.len() } else { 0..=0 };
    for number in count {
        let key = |name: &str| match number {
            0 => name.to_owned(),
            _ => format!("{name}{number}"),
        };
        let text = |name: &str, otherwise: &str| {
            let found = secret.get(&key(name)).filter(|_| !name.is_empty());
            found.map_or(otherwise, |text| text.trim()).to_owned()
        };
        let name = text(&of.userkey, &of.defaultuservalue);
        if name.is_empty() {
            if of.template {
                break;
            }
            wrong.push(format!("Secret {} has no key '{}'", of.secretname, of.userkey));
            continue;
        }
        match role(
            of,
            &name,
            text(&of.passwordkey, ""),
            text(&of.rolekey, &of.defaultrolevalue),
            more,
            &yaml,
        ) {
            Ok(role) if roles.iter().all(|other| other.name != role.name) => roles.push(role),
            Ok(_) => wrong.push(format!("Secret {}: '{name}' is there twice", of.secretname)),
            Err(reason) => wrong.push(format!("Secret {}: {reason}", of.secretname)),
        }
    }
    (roles, wrong)
}

fn role(
    of: &InfrastructureSecret,
    name: &str,
    password: String,
    member_of: String,
    more: &BTreeMap<String, String>,
    yaml: &impl Fn(&str) -> Result<Value, String>,
) -> Result<InfrastructureRole, String> {
    if !is_role_name(name) || is_reserved_role(name) {
        return Err(format!("'{name}' cannot be a role"));
    }
    if password.is_empty() {
        return Err(format!("'{name}' has no password"));
    }
    let mut out = InfrastructureRole {
        name: name.to_owned(),
        password,
        flags: role_flags(&[]).unwrap_or_default(),
        member_of: Some(member_of)
            .filter(|role| !role.is_empty())
            .into_iter()
            .collect(),
        ..InfrastructureRole::default()
    };
    for text in [Some(&of.details), more.get(name)].into_iter().flatten() {
        if text.trim().is_empty() {
            continue;
        }
        let value = yaml(text).map_err(|reason| format!("what is said of '{name}' is no YAML: {reason}"))?;
        let details: Details =
            serde_json::from_value(value).map_err(|error| format!("what is said of '{name}': {error}"))?;
        if !details.user_flags.is_empty() {
            out.flags =
                role_flags(&details.user_flags).map_err(|error| format!("flags of '{name}': {error}"))?;
        }
        for group in details.inrole {
            if !out.member_of.contains(&group) {
                out.member_of.push(group);
            }
        }
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let parameters = details
            .db_parameters
            .into_iter()
            .map(|(name, value)| (name, text(value)));
        out.parameters.extend(parameters);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn as_json(text: &str) -> Result<Value, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn numbered_users_are_read_until_a_number_is_missing() {
        let secret = data(&[
            ("user1", "robot_a"),
            ("password1", "x"),
            ("inrole1", "readers"),
            ("user2", "robot_b"),
            ("password2", "y\n"),
            ("user4", "robot_d"),
            ("password4", "z"),
        ]);
        let more = data(&[(
            "robot_b",
            r#"{"inrole": ["admin"], "user_flags": ["createdb"], "db_parameters": {"log_statement": "all", "work_mem": 1024}}"#,
        )]);
        let (roles, wrong) = infrastructure_roles(
            &InfrastructureSecret::numbered("ns/roles"),
            &secret,
            &more,
            as_json,
        );
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(roles.len(), 2);
        assert_eq!(roles[0].member_of, ["readers"]);
        assert_eq!(
            (roles[1].password.as_str(), roles[1].member_of.as_slice()),
            ("y", &["admin".to_owned()][..])
        );
        assert!(
            roles[1]
                .flags
                .iter()
                .any(|flag| flag.name == "CREATEDB" && flag.on)
        );
        assert_eq!(roles[1].parameters["work_mem"], "1024");
    }

    #[test]
    fn a_described_secret_is_one_role_with_defaults() {
        let of: InfrastructureSecret = serde_json::from_value(json!({
            "secretname": "monitoring", "userkey": "u", "passwordkey": "p", "defaultuservalue": "robot_zmon",
            "defaultrolevalue": "pg_monitor", "details": r#"{"inrole": ["more"]}"#,
        }))
        .unwrap();
        let (roles, wrong) = infrastructure_roles(&of, &data(&[("p", "s")]), &BTreeMap::new(), as_json);
        assert!(wrong.is_empty());
        assert_eq!(
            (roles[0].name.as_str(), roles[0].member_of.as_slice()),
            ("robot_zmon", &["pg_monitor".to_owned(), "more".to_owned()][..])
        );
    }

    #[test]
    fn what_is_wrong_with_one_keeps_no_other_out() {
        let secret = data(&[
            ("user1", "Robot"),
            ("password1", "x"),
            ("user2", "robot_b"),
            ("user3", "robot_c"),
            ("password3", "z"),
            ("user4", "robot_c"),
            ("password4", "z"),
        ]);
        let more = data(&[]);
        let (roles, wrong) =
            infrastructure_roles(&InfrastructureSecret::numbered("r"), &secret, &more, as_json);
        assert_eq!(roles.len(), 1);
        assert_eq!(
            wrong,
            [
                "Secret r: 'Robot' cannot be a role",
                "Secret r: 'robot_b' has no password",
                "Secret r: 'robot_c' is there twice"
            ]
        );
        let alone = InfrastructureSecret {
            userkey: "u".into(),
            secretname: "r".into(),
            ..InfrastructureSecret::default()
        };
        assert_eq!(
            infrastructure_roles(&alone, &secret, &more, as_json).1,
            ["Secret r has no key 'u'"]
        );
    }
}
