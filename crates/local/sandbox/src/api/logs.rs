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
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
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
        let since = since(request)?;
        if request.is_set("timestamps")? && request.is_set("follow")? {
            return Err(ApiError::not_implemented(
                "logs with timestamps that are followed; lines begin with the time of the program that wrote them",
            ));
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
        let path = log_file(
            &self.pods,
            meta::uid(&pod),
            container,
            request.is_set("previous")?,
        );
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
        if let Some(since) = since {
            text = after(&text, since).to_vec();
        }
        if let Ok(lines) = request.query("tailLines").parse::<usize>() {
            text = last_lines(&text, lines).to_vec();
        }
        if request.is_set("timestamps")? {
            text = with_times(&text);
        }
        if let Ok(limit) = request.query("limitBytes").parse::<usize>() {
            text.truncate(limit);
        }
        let first = Bytes::from(text);
        if !request.is_set("follow")? {
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

/// From when on a client wants lines.
fn since(request: &Request) -> Result<Option<Timestamp>, ApiError> {
    let time = request.query("sinceTime");
    if !time.is_empty() {
        let bad = |_| ApiError::bad_request(format!("sinceTime={time} is no time of RFC 3339"));
        return time.parse().map(Some).map_err(bad);
    }
    let seconds = request.query("sinceSeconds");
    if seconds.is_empty() {
        return Ok(None);
    }
    let bad = || ApiError::bad_request(format!("sinceSeconds={seconds} is no number of seconds"));
    let seconds: i64 = seconds.parse().map_err(|_| bad())?;
    let from = Timestamp::now()
        .as_second()
        .checked_sub(seconds)
        .ok_or_else(bad)?;
    Timestamp::from_second(from).map(Some).map_err(|_| bad())
}

/// The lines that were written at `since` or later, by the times that programs begin their lines with.
fn after(text: &[u8], since: Timestamp) -> &[u8] {
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if time_of(line).is_some_and(|time| time >= since) {
            return &text[at..];
        }
        at += line.len();
    }
    &[]
}

/// The time that a line begins with: `2026-11-26 10:00:00[.,]123 [UTC]`, or with `T` and `Z`. One that names no zone is of the
/// machine's.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    let text = String::from_utf8_lossy(line.get(..line.len().min(40))?);
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.' | ','))
        .unwrap_or(rest.len());
    let (time, zone) = rest.split_at(end);
    let time: DateTime = format!("{date}T{}", time.trim_end_matches(['.', ',']).replace(',', "."))
        .parse()
        .ok()?;
    let zone = if zone.starts_with('Z') || zone.starts_with(" UTC") {
        TimeZone::UTC
    } else {
        TimeZone::system()
    };
    Some(time.to_zoned(zone).ok()?.timestamp())
}

/// Lines with a time before each, in the form of Kubernetes; a line without one has that of the line before.
fn with_times(text: &[u8]) -> Vec<u8> {
    let mut last = Timestamp::UNIX_EPOCH;
    let mut out = Vec::with_capacity(text.len() * 2);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        last = time_of(line).unwrap_or(last);
        out.extend_from_slice(format!("{last:.9} ").as_bytes());
        out.extend_from_slice(line);
    }
    out
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
    fn lines_after_a_time() {
        let log = b"2026-11-26 10:00:00.123 UTC INFO: a\n\tDETAIL: b\n2026-11-26 10:00:05.000 UTC [7] LOG:  c\n2026-11-26T10:00:06Z d\n";
        let from = |time: &str| String::from_utf8(after(log, time.parse().unwrap()).to_vec()).unwrap();
        assert!(from("2026-11-26T10:00:01Z").starts_with("2026-11-26 10:00:05.000 UTC [7]"));
        assert_eq!(from("2026-11-26T10:00:06Z"), "2026-11-26T10:00:06Z d\n");
        assert_eq!(from("2026-11-26T11:00:00Z"), "");
        let told = String::from_utf8(with_times(log)).unwrap();
        assert!(
            told.starts_with("2026-11-26T10:00:00.123000000Z 2026-11-26 10:00:00.123 UTC INFO: a\n"),
            "{told}"
        );
        assert_eq!(
            told.lines().nth(1).unwrap(),
            "2026-11-26T10:00:00.123000000Z \tDETAIL: b"
        );
    }

    #[test]
    fn the_last_lines() {
        for (count, wanted) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (9, "a\nb\nc\n")] {
            assert_eq!(last_lines(b"a\nb\nc\n", count), wanted.as_bytes());
        }
    }
}
