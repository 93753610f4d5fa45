use howdah_http::HttpError;
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
    /// A member's agent.
    #[error("the agent of {member}: {reason}")]
    Agent {
        /// Which.
        member: String,
        /// Why not.
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
}

/// What the API server says, without the structure around it.
pub(crate) fn kube_text(error: &kube::Error) -> String {
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

    pub(crate) fn agent(member: &str, error: &HttpError) -> OperatorError {
        OperatorError::Agent {
            member: member.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Whether the error is transient: a server that is starting, stopping or changing its role.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            OperatorError::Database { source, .. } => match source.code() {
                // Cannot connect now, admin or crash shutdown, read only (it is no primary any more).
                Some(code) => ["57P03", "57P01", "57P02", "25006"].contains(&code),
                None => true,
            },
            _ => false,
        }
    }

    /// Whether the database has refused a statement for what it asks.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            OperatorError::Database { source, .. } => source.code().is_some() && !self.is_passing(),
            _ => false,
        }
    }

    /// The whole chain in one line.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.to_string();
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
