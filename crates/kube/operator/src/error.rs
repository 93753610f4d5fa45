use howdah_http::HttpError;
use howdah_types::{Class, Classified};
use thiserror::Error;

/// Why a pass did not get through. The cluster's status shows it, and it is tried again.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// The Kubernetes API.
    #[error("{what}: {}", kube_text(source))]
    Kube {
        /// What was tried.
        what: String,
        /// How it failed.
        source: Box<kube::Error>,
    },
    /// The database.
    #[error("the database: {what}: {source}")]
    Database {
        /// What was tried.
        what: String,
        /// How it failed.
        source: howdah_sql::SqlError,
    },
    /// A member's agent has refused parameters: their names, and its words.
    #[error("{reason}")]
    Parameters {
        /// Which it refuses.
        names: Vec<String>,
        /// Why.
        reason: String,
    },
    /// A member's agent was not reached, or its answer was lost.
    #[error("the agent of {member}: {cause}")]
    Unreached {
        /// Which.
        member: String,
        /// How it failed; part of the text, so no source of its own that would be told twice.
        cause: HttpError,
    },
    /// A member's agent has refused.
    #[error("the agent of {member}: {status}: {reason}")]
    Agent {
        /// Which.
        member: String,
        /// The status of its answer.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// TLS settings.
    #[error(transparent)]
    Tls(#[from] howdah_http::TlsError),
    /// Something that was begun has not ended yet.
    #[error("{0}")]
    Waiting(String),
    /// Something that should be there is not.
    #[error("{0}")]
    Missing(String),
    /// A role has the name that a newer one was to have.
    #[error("there is a role {0} already: drop or rename it, or wait until tomorrow")]
    Taken(String),
    /// The system gives no random numbers, or cannot run a thread.
    #[error("this machine: {0}")]
    Machine(&'static str),
}

/// What the API server says, without the structure around it.
pub fn kube_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl OperatorError {
    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> OperatorError {
        let what = what.into();
        move |source| OperatorError::Kube {
            what,
            source: Box::new(source),
        }
    }

    pub(crate) fn database(what: &str) -> impl FnOnce(howdah_sql::SqlError) -> OperatorError + '_ {
        move |source| OperatorError::Database {
            what: what.to_owned(),
            source,
        }
    }

    pub(crate) fn unreached(member: &str, cause: HttpError) -> OperatorError {
        OperatorError::Unreached {
            member: member.to_owned(),
            cause,
        }
    }

    /// Whether it is expected of a database for some seconds: it starts, stops or changes its role.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            OperatorError::Database { source, .. } => match source.code() {
                // Cannot connect now, admin or crash shutdown, read only (it is no primary any more).
                Some(code) => ["57P03", "57P01", "57P02", "25006"].contains(&code),
                None => source.class() == Class::Retry,
            },
            _ => false,
        }
    }

    /// Whether the database has refused a statement for what it asks.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, OperatorError::Database { .. }) && self.class() == Class::Refused
    }

    /// Whether the API has answered, and not for a trouble of its own.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self, OperatorError::Kube { source, .. }
            if matches!(&**source, kube::Error::Api(status) if (400..500).contains(&status.code)))
    }

    /// Whether the API refuses the object for what it says.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, OperatorError::Kube { source, .. }
            if matches!(&**source, kube::Error::Api(status) if status.code == 422))
    }

    /// One word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            OperatorError::Kube { source, .. } => match &**source {
                kube::Error::Api(status) => match status.code {
                    401 | 403 => "api_forbidden",
                    409 => "api_conflict",
                    400 | 422 => "api_invalid",
                    429 => "api_busy",
                    _ => "api",
                },
                _ => "api_unreached",
            },
            OperatorError::Database { .. } => "database",
            OperatorError::Parameters { .. } => "parameters",
            OperatorError::Unreached { .. } => "agent_unreached",
            OperatorError::Agent { .. } => "agent",
            OperatorError::Tls(_) => "tls",
            OperatorError::Waiting(_) => "waiting",
            OperatorError::Missing(_) => "missing",
            OperatorError::Taken(_) => "taken",
            OperatorError::Machine(_) => "machine",
        }
    }

    /// The whole chain in one line.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        if let OperatorError::Kube { source, .. } = self
            && matches!(**source, kube::Error::Api(_))
        {
            // The API's message is the whole of it.
            return text;
        }
        let mut cause = std::error::Error::source(self).and_then(std::error::Error::source);
        while let Some(inner) = cause {
            let more = inner.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = inner.source();
        }
        text
    }
}

impl Classified for OperatorError {
    fn class(&self) -> Class {
        match self {
            OperatorError::Kube { source, .. } => match &**source {
                // Not found, a conflict and too many requests pass; what is forbidden or invalid stays so.
                kube::Error::Api(status) if [400, 401, 403, 405, 413, 415, 422].contains(&status.code) => {
                    Class::Refused
                }
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Class::Bug,
                _ => Class::Retry,
            },
            OperatorError::Database { source, .. } => source.class(),
            OperatorError::Unreached { cause, .. } => cause.class(),
            OperatorError::Agent { status, .. } if *status < 500 => Class::Refused,
            OperatorError::Agent { .. } | OperatorError::Waiting(_) | OperatorError::Missing(_) => {
                Class::Retry
            }
            OperatorError::Parameters { .. } | OperatorError::Tls(_) | OperatorError::Taken(_) => {
                Class::Refused
            }
            OperatorError::Machine(_) => Class::Bug,
        }
    }
}

#[cfg(test)]
mod tests {
    use howdah_sql::SqlError;
    use kube::core::Status;

    use super::*;

    fn answered(code: u16) -> OperatorError {
        let mut status = Status::failure("no", "Reason");
        status.code = code;
        OperatorError::kube("creating the Service")(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn the_class_decides_when_a_step_is_tried_again() {
        // What another pass may find changed: an object that came or went, a busy or absent server.
        for code in [404, 409, 410, 429, 500, 503, 504] {
            assert_eq!(answered(code).class(), Class::Retry, "{code}");
        }
        // What stays until somebody changes rights or the object.
        for code in [400, 401, 403, 405, 413, 415, 422] {
            assert_eq!(answered(code).class(), Class::Refused, "{code}");
        }
        let agent = |status| OperatorError::Agent {
            member: "db-0".into(),
            status,
            reason: "no".into(),
        };
        assert_eq!(agent(412).class(), Class::Refused);
        assert_eq!(agent(503).class(), Class::Retry);
        let database = OperatorError::database("a role")(SqlError::Timeout("a statement"));
        assert_eq!(database.class(), Class::Retry);
        assert!(database.is_passing() && !database.is_refusal());
        assert_eq!(OperatorError::Machine("no threads").class(), Class::Bug);
        assert_eq!(OperatorError::Waiting("a copy".into()).class(), Class::Retry);
    }
}
