use std::{future::Future, pin::Pin, sync::Arc};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use crate::{Raw, raw::Carrier};

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

    /// What is to be served once the answer is out, of a connection that `S` carries.
    pub(crate) fn after<S: Carrier>(self, upgraded: OnUpgrade) -> Option<Switched> {
        let serve = self.0.lock().take()?;
        Some(Box::pin(async move {
            let upgraded = match upgraded.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(%error, "a connection did not leave HTTP"),
            };
            match upgraded.downcast::<TokioIo<S>>() {
                Ok(parts) => serve(Raw::new(parts.read_buf, parts.io.into_inner())).await,
                Err(_) => tracing::error!("a connection is carried by something else than it was made of"),
            }
        }))
    }
}
