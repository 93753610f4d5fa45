use std::{future::Future, pin::Pin, sync::Arc};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

/// A connection after it has left HTTP.
pub type Raw = TokioIo<Upgraded>;

/// What is left to be served of a connection.
pub(crate) type Switched = Pin<Box<dyn Future<Output = ()> + Send>>;

type Serve = Box<dyn FnOnce(Raw) -> Switched + Send>;

/// An answer's extension: what serves the connection after an answer with status 101 (Switching Protocols).
///
/// The connection's task runs it to its end; it is dropped when the server stops.
#[derive(Clone)]
pub struct Switch(Arc<Mutex<Option<Serve>>>);

impl Switch {
    /// Serves the connection with `serve`.
    pub fn to<F>(serve: impl FnOnce(Raw) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serve: Serve = Box::new(|raw| Box::pin(serve(raw)));
        Switch(Arc::new(Mutex::new(Some(serve))))
    }

    /// What is to be served once the answer is out.
    pub(crate) fn after(self, upgraded: OnUpgrade) -> Option<Switched> {
        let serve = self.0.lock().take()?;
        Some(Box::pin(async move {
            match upgraded.await {
                Ok(raw) => serve(TokioIo::new(raw)).await,
                Err(error) => tracing::debug!(%error, "a connection did not leave HTTP"),
            }
        }))
    }
}
