use std::convert::Infallible;

use bytes::Bytes;
use howdah_http::Switch;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Response, http::response};
use serde_json::Value;

use crate::{ApiError, store::Stored};

/// A body that is there at once, or comes bit by bit.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Body,
    /// An answer that ends HTTP on this connection, and what follows.
    pub(crate) switch: Option<(response::Builder, Switch)>,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Self::json_text(value.to_string())
    }

    pub(crate) fn json_text(text: String) -> Self {
        Self::with(200, "application/json", Bytes::from(text))
    }

    /// An object as the store has it.
    pub(crate) fn object(object: &Stored) -> Self {
        Self::json_text(object.text.to_string())
    }

    pub(crate) fn created(self) -> Self {
        Reply { status: 201, ..self }
    }

    pub(crate) fn with(status: u16, content_type: &str, bytes: Bytes) -> Self {
        Reply {
            status,
            content_type: content_type.to_owned(),
            warnings: Vec::new(),
            body: Full::new(bytes).boxed_unsync(),
            switch: None,
        }
    }

    pub(crate) fn switching(answer: response::Builder, switch: Switch) -> Self {
        Reply {
            switch: Some((answer, switch)),
            ..Self::text("")
        }
    }

    pub(crate) fn text(text: &'static str) -> Self {
        Self::with(200, "text/plain", Bytes::from_static(text.as_bytes()))
    }

    pub(crate) fn error(error: &ApiError) -> Self {
        Reply {
            status: error.code,
            ..Self::json(&error.status())
        }
    }

    pub(crate) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let empty = || Full::new(Bytes::new()).boxed_unsync();
        if let Some((answer, switch)) = self.switch {
            return answer
                .extension(switch)
                .body(empty())
                .unwrap_or_else(|_| Response::new(empty()));
        }
        let mut builder = Response::builder()
            .status(self.status)
            .header("content-type", self.content_type)
            .header("cache-control", "no-cache, private");
        for warning in &self.warnings {
            let text = warning.replace(['"', '\\', '\n'], "'");
            builder = builder.header("warning", format!("299 - \"{text}\""));
        }
        builder.body(self.body).unwrap_or_else(|_| Response::new(empty()))
    }
}
