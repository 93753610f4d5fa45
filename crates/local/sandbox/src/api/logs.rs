use std::{
    convert::Infallible,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use howdah_clock::now;
use howdah_http::sleep_until;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;

use super::{Api, reply::Reply, request::Request, route::Target};
use crate::{ApiError, Store, meta, node::log_file};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// As much of a log as one answer carries at a time.
const PIECE: usize = 64 * 1024;
/// As much of a log as is looked through for the last lines.
const TAIL: u64 = 8 * 1024 * 1024;

struct Follow {
    path: PathBuf,
    at: u64,
    store: Store,
    namespace: String,
    name: String,
    uid: String,
    stop: watch::Receiver<bool>,
}

impl Api {
    /// `GET /pods/NAME/log`
    pub(super) fn logs(&self, request: &Request, target: &Target) -> Result<Reply, ApiError> {
        for unknown in ["sinceSeconds", "sinceTime", "timestamps", "limitBytes"] {
            if !request.query(unknown).is_empty() && request.query(unknown) != "false" {
                return Err(ApiError::not_implemented(&format!(
                    "logs with {unknown}; lines carry no time of the node"
                )));
            }
        }
        let pod = self.fetch(target)?;
        let first = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
        let container = Some(request.query("container"))
            .filter(|c| !c.is_empty())
            .unwrap_or(first);
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        if !containers.into_iter().any(|known| known["name"] == container) {
            return Err(ApiError::bad_request(format!(
                "container {container} is not valid for pod {}",
                meta::name(&pod)
            )));
        }
        let path = log_file(&self.pods, meta::uid(&pod), container, request.is_set("previous"));
        let fail = |error: std::io::Error| {
            ApiError::bad_request(format!("container \"{container}\" has no log: {error}"))
        };
        let mut file = File::open(&path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let from = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from)).map_err(fail)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(fail)?;
        let at = from + text.len() as u64;
        if let Ok(lines) = request.query("tailLines").parse::<usize>() {
            text = last_lines(&text, lines).to_vec();
        }
        let first = Bytes::from(text);
        if !request.is_set("follow") {
            return Ok(Reply::with(200, "text/plain", first));
        }
        let follow = Follow {
            path,
            at,
            store: self.store.clone(),
            namespace: target.namespace.clone(),
            name: meta::name(&pod).to_owned(),
            uid: meta::uid(&pod).to_owned(),
            stop: self.stop.clone(),
        };
        let stream = futures_util::stream::unfold((Some(first), follow), |(first, mut follow)| async move {
            let piece = match first {
                Some(first) => first,
                None => follow.next().await?,
            };
            Some((Ok::<_, Infallible>(Frame::data(piece)), (None, follow)))
        });
        Ok(Reply {
            status: 200,
            content_type: "text/plain".into(),
            warnings: Vec::new(),
            body: StreamBody::new(stream).boxed_unsync(),
        })
    }
}

impl Follow {
    /// The next piece; ends with the pod.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.piece() {
                return Some(piece);
            }
            let pod = self.store.get("/pods", &self.namespace, &self.name);
            if *self.stop.borrow() || pod.is_none_or(|pod| meta::uid(&pod) != self.uid) {
                return None;
            }
            tokio::select! {
                _ = self.stop.changed() => return None,
                () = sleep_until(now() + LOOK) => {}
            }
        }
    }

    fn piece(&mut self) -> Option<Bytes> {
        let mut file = File::open(&self.path).ok()?;
        // A container that was started again has a new log.
        if file.metadata().ok()?.len() < self.at {
            self.at = 0;
        }
        file.seek(SeekFrom::Start(self.at)).ok()?;
        let mut bytes = vec![0; PIECE];
        let read = file.read(&mut bytes).ok().filter(|read| *read > 0)?;
        bytes.truncate(read);
        self.at += read as u64;
        Some(Bytes::from(bytes))
    }
}

fn last_lines(text: &[u8], count: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends: Vec<usize> = body
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(i, _)| i)
        .collect();
    if count == 0 {
        return &[];
    }
    match ends.len().checked_sub(count) {
        Some(index) => &text[ends[index] + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines() {
        for (count, wanted) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (9, "a\nb\nc\n")] {
            assert_eq!(last_lines(b"a\nb\nc\n", count), wanted.as_bytes());
        }
    }
}
