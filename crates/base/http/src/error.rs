use std::{error::Error as StdError, fmt};

use howdah_types::{Class, Classified};
use thiserror::Error;

/// How a request failed; what matters is whether the server may have acted on it.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No connection: the server has not seen the request.
    #[error("cannot connect to {url}: {cause}")]
    NotSent {
        /// Where to.
        url: String,
        /// Why; part of the text, so no source of its own that would be told twice.
        cause: Cause,
    },
    /// The connection broke after the request was begun: the server may have acted on it.
    #[error("the connection to {url} broke: {cause}")]
    Lost {
        /// Where to.
        url: String,
        /// Why; part of the text, so no source of its own that would be told twice.
        cause: Cause,
    },
    /// The deadline passed after the request was begun: the server may have acted on it, or will.
    #[error("{url} did not answer in time")]
    Timeout {
        /// Where to.
        url: String,
    },
    /// The address is not one.
    #[error("'{0}' is not an http or https URL")]
    BadUrl(String),
}

/// The error below, of the system, of TLS or of HTTP. Its text is that of the whole chain: HTTP's own errors say only in which
/// step they happened.
#[derive(Debug)]
pub struct Cause(Box<dyn StdError + Send + Sync>);

impl Cause {
    /// The first error of this type in the chain.
    #[must_use]
    pub fn find<E: StdError + 'static>(&self) -> Option<&E> {
        let mut at: Option<&(dyn StdError + 'static)> = Some(&*self.0);
        while let Some(error) = at {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // An error of the system that carries another one tells the other's source as its own.
            let carried = error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref);
            at = match carried {
                Some(carried) => Some(carried),
                None => error.source(),
            };
        }
        None
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Cause {
    fn from(error: E) -> Self {
        Cause(error.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(inner) = cause {
            let more = inner.to_string();
            // Some repeat what is below them.
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = inner.source();
        }
        f.write_str(&text)
    }
}

impl HttpError {
    /// Whether the server has certainly not acted on the request.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        matches!(self, HttpError::NotSent { .. } | HttpError::BadUrl(_))
    }
}

impl Classified for HttpError {
    fn class(&self) -> Class {
        match self {
            // A certificate that is not accepted now is not accepted later.
            HttpError::NotSent { cause, .. } | HttpError::Lost { cause, .. } => {
                match cause.find::<rustls::Error>() {
                    Some(rustls::Error::InvalidCertificate(_)) => Class::Refused,
                    Some(_) | None => Class::Retry,
                }
            }
            HttpError::Timeout { .. } => Class::Retry,
            HttpError::BadUrl(_) => Class::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::CertificateError;

    use super::*;

    #[test]
    fn the_cause_is_told_whole_and_decides_the_class() {
        let not_sent = |cause: Cause| HttpError::NotSent {
            url: "https://db:8008".into(),
            cause,
        };
        let bad = rustls::Error::InvalidCertificate(CertificateError::Expired);
        // As tokio-rustls tells it.
        let by_tls = not_sent(io::Error::new(io::ErrorKind::InvalidData, bad).into());
        assert_eq!(by_tls.class(), Class::Refused);
        assert!(by_tls.to_string().contains("Expired"), "{by_tls}");
        let by_system = not_sent(io::Error::from_raw_os_error(111).into());
        assert_eq!(by_system.class(), Class::Retry);
        assert_eq!(
            by_system.to_string(),
            "cannot connect to https://db:8008: Connection refused (os error 111)"
        );
        assert_eq!(HttpError::BadUrl("x".into()).class(), Class::Refused);
    }
}
