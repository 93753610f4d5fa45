//! What the operator asks of agents, over their REST API.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use howdah_clock::now;
use howdah_dcs::Member;
use howdah_http::{Client, Method, Response, Url, basic_auth};
use serde_json::{Map, Value, json};

use crate::{OperatorError, context::Context, observe::Seen};

/// A restart may write a large checkpoint, a switchover may wait twenty seconds for the candidate.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster's agents. The superuser's password is the credential for requests that act (docs/operator.md).
pub(crate) struct Agents<'a> {
    seen: &'a Seen,
    client: Client,
}

impl<'a> Agents<'a> {
    pub(crate) fn new(context: &Context, seen: &'a Seen, passwords: &BTreeMap<String, String>) -> Self {
        let user = &context.settings.super_username;
        let password = passwords.get(user).map(String::as_str).unwrap_or_default();
        Agents {
            seen,
            client: Client::default().with_authorization(Some(basic_auth(user, password))),
        }
    }

    /// Changes the dynamic configuration.
    pub(crate) async fn configure(&self, change: &Map<String, Value>) -> Result<(), OperatorError> {
        let any = self.seen.leader().or_else(|| self.seen.rows.first());
        let member = any.ok_or_else(|| OperatorError::Missing("no member answers".into()))?;
        self.ask(&member.name, Method::PATCH, "config", &json!(change))
            .await
    }

    /// Hands leadership over.
    pub(crate) async fn switch(&self, from: &str, to: &str) -> Result<(), OperatorError> {
        self.ask(
            from,
            Method::POST,
            "switchover",
            &json!({"leader": from, "candidate": to}),
        )
        .await
    }

    /// Restarts PostgreSQL, if parameters still wait for that.
    pub(crate) async fn restart(&self, member: &str) -> Result<(), OperatorError> {
        self.ask(member, Method::POST, "restart", &json!({"restart_pending": true}))
            .await
    }

    async fn ask(&self, name: &str, method: Method, path: &str, body: &Value) -> Result<(), OperatorError> {
        let member = self
            .seen
            .view
            .members
            .iter()
            .find(|(member, _)| member.as_str() == name);
        let base = member.and_then(|(_, member)| Member::api_base(member));
        let base = base.ok_or_else(|| OperatorError::Missing(format!("{name} has no address")))?;
        let url =
            Url::parse(&format!("{base}/{path}")).map_err(|error| OperatorError::unreached(name, error))?;
        let body = Some(Bytes::from(body.to_string()));
        let answer = self
            .client
            .request(method, &url, body, now() + PATIENCE)
            .await
            .map_err(|error| OperatorError::unreached(name, error))?;
        accepted(name, &answer)
    }
}

/// The parameters that an agent's refusal of a configuration names, each in a line of its own.
fn refused_parameters(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("parameter ")?.split_once(" = "))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn accepted(member: &str, answer: &Response) -> Result<(), OperatorError> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let text = answer.text();
    let names = refused_parameters(&text);
    if answer.status == 400 && !names.is_empty() {
        return Err(OperatorError::Parameters { names, reason: text });
    }
    Err(OperatorError::Agent {
        member: member.to_owned(),
        status: answer.status,
        reason: text,
    })
}

#[cfg(test)]
mod tests {
    use super::refused_parameters;

    #[test]
    fn refused_parameters_are_found_by_name() {
        let text = "parameter timezone = 'Mars': invalid value\nparameter a.b = 'x = y': no\n";
        assert_eq!(refused_parameters(text), ["timezone", "a.b"]);
        assert_eq!(
            refused_parameters("postgresql.pg_hba: line 1 is wrong"),
            Vec::<String>::new()
        );
    }
}
