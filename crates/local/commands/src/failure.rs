use thiserror::Error;

/// Failures that have an exit code of their own.
#[derive(Debug, Error)]
pub enum Failure {
    /// A manifest with errors.
    #[error("{0}")]
    Manifest(String),
    /// Applied, and not ready in time.
    #[error("{0}")]
    NotReady(String),
    /// There is no such cluster.
    #[error(
        "there is no cluster '{name}' in namespace {namespace}: 'howdah list' shows those that are there"
    )]
    NoCluster {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The sandbox is not running.
    #[error("the sandbox is not running: start it with 'howdah up --detach'")]
    NotRunning,
}

/// An error without the structures that the Kubernetes client writes around the server's sentence.
pub(crate) fn in_words(error: anyhow::Error) -> anyhow::Error {
    let mut words: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref::<kube::Error>() {
            words.push(status.message.clone());
            return anyhow::anyhow!("{}", words.join(": "));
        }
        words.push(cause.to_string());
    }
    error
}

/// The exit code of a command that ended with this error.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Manifest(_)) => 2,
        Some(Failure::NotReady(_)) => 3,
        Some(Failure::NoCluster { .. }) => 4,
        Some(Failure::NotRunning) => 5,
        None => 1,
    }
}
