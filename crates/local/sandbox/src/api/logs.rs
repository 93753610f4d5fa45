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
use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};
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
        if request.is_set("timestamps") && request.is_set("follow") {
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
            &self.node.dir.pods(),
            meta::uid(&pod),
            container,
            request.is_set("previous"),
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
        let written = file
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map_err(fail)?;
        text = asked(
            &text,
            Timestamp::try_from(written).unwrap_or_default(),
            since,
            request,
        );
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
            switch: None,
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

/// Of a log that was `written` last at some time, what a client asks for.
fn asked(text: &[u8], written: Timestamp, since: Option<Timestamp>, request: &Request) -> Vec<u8> {
    let mut lines = timed(text, written);
    lines.retain(|(time, _)| since.is_none_or(|since| *time >= since));
    if let Ok(count) = request.query("tailLines").parse::<usize>() {
        lines.drain(..lines.len().saturating_sub(count));
    }
    let with_times = request.is_set("timestamps");
    let mut out = Vec::with_capacity(text.len());
    for (time, line) in lines {
        if with_times {
            out.extend_from_slice(format!("{time:.9} ").as_bytes());
        }
        out.extend_from_slice(line);
    }
    if let Ok(limit) = request.query("limitBytes").parse::<usize>() {
        out.truncate(limit);
    }
    out
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

/// `+02`, `+0200` or `-02:00`.
fn offset(text: &str) -> Option<Offset> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4).map_or(Some(0), |minutes| minutes.parse().ok())?;
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).ok()
}

/// Lines with the time that each is of: its own, or that of the line before. Lines before the first time have that one, or
/// `otherwise` where no line has any.
fn timed(text: &[u8], otherwise: Timestamp) -> Vec<(Timestamp, &[u8])> {
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    let mut last = lines().find_map(time_of).unwrap_or(otherwise);
    lines()
        .map(|line| {
            last = time_of(line).unwrap_or(last);
            (last, line)
        })
        .collect()
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
    // An offset, or a name; of names only those of UTC are known.
    let zone = match zone.trim_start() {
        zone if zone.starts_with('Z') || zone.starts_with("UTC") || zone.starts_with("GMT") => TimeZone::UTC,
        zone if zone.starts_with(['+', '-']) => {
            let end = zone
                .find(|c: char| c.is_whitespace() || c == ']')
                .unwrap_or(zone.len());
            offset(&zone[..end]).map_or_else(TimeZone::system, TimeZone::fixed)
        }
        _ => TimeZone::system(),
    };
    Some(time.to_zoned(zone).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str, query: &str) -> String {
        let request = Request {
            method: hyper::Method::GET,
            path: Vec::new(),
            query: super::super::request::parse_query(query),
            headers: hyper::HeaderMap::new(),
            body: Vec::new(),
        };
        let since = since(&request).unwrap();
        let written = "2026-11-26T12:00:00Z".parse().unwrap();
        String::from_utf8(asked(log.as_bytes(), written, since, &request)).unwrap()
    }

    #[test]
    fn lines_are_chosen_by_time_and_number() {
        let log = "2026-11-26 10:00:00.123 UTC INFO: a\n\tDETAIL: b\n2026-11-26 11:00:05.000+01:00 c\n2026-11-26T10:00:06Z d\n";
        let from = |time: &str| read(log, &format!("sinceTime={time}"));
        assert!(from("2026-11-26T10:00:01Z").starts_with("2026-11-26 11:00:05"));
        assert_eq!(from("2026-11-26T10:00:06Z"), "2026-11-26T10:00:06Z d\n");
        assert_eq!(from("2026-11-26T11:00:00Z"), "");
        assert_eq!(read(log, "tailLines=1"), "2026-11-26T10:00:06Z d\n");
        assert_eq!(read(log, "tailLines=0"), "");
        assert_eq!(read(log, "tailLines=9"), log);
        assert_eq!(read(log, "limitBytes=10"), "2026-11-26");
        let told = read(log, "timestamps=true&tailLines=3");
        assert!(
            told.starts_with("2026-11-26T10:00:00.123000000Z \tDETAIL: b\n"),
            "{told}"
        );
        // Without any time the file's own counts.
        assert_eq!(
            read("a\n", "timestamps=true"),
            "2026-11-26T12:00:00.000000000Z a\n"
        );
    }
}
