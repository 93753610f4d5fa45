//! Exec and port-forward: what a request asks for, before its connection leaves HTTP.

use std::{path::Path, sync::Arc};

use howdah_http::Switch;
use hyper::http::response;
use serde_json::Value;

use super::{Api, reply::Reply, request::Request, route::Target};
use crate::{
    ApiError, meta,
    streams::{Exec, Forward, Protocol, Purpose, Session, negotiate},
};

/// As many sessions run at a time: each holds a connection and up to a megabyte, and they share a thread with the leases of all
/// clusters.
pub(super) const SESSIONS: usize = 128;

/// As many ports of one request can be forwarded over numbered channels.
const PORTS: usize = 100;

impl Api {
    /// `GET` or `POST /pods/NAME/exec`
    pub(super) fn exec(&self, request: &Request, user: &str, target: &Target) -> Result<Reply, ApiError> {
        let pod = self.running(request, user, target)?;
        let line = request.query_all("command");
        if line.iter().all(String::is_empty) {
            return Err(ApiError::bad_request(
                "you must specify at least one command for the container",
            ));
        }
        let (stdin, stdout, stderr, tty) = (
            request.is_set("stdin"),
            request.is_set("stdout"),
            request.is_set("stderr"),
            request.is_set("tty"),
        );
        if !stdin && !stdout && !stderr {
            return Err(ApiError::bad_request(
                "one of stdin, stdout and stderr must be wanted",
            ));
        }
        let mut surroundings = self.node.shell(&pod).map_err(ApiError::internal)?;
        let line = match packed(&surroundings.root, &line) {
            Some(line) => {
                surroundings.directory.clone_from(&surroundings.root);
                line
            }
            None => line
                .into_iter()
                .map(|word| inside(&surroundings.root, word))
                .collect(),
        };
        let (protocol, answer) = negotiate(&request.headers, Purpose::Exec)?;
        let session = Session::Exec(Exec {
            line,
            surroundings,
            stdin,
            stdout,
            stderr,
            tty,
        });
        self.begin(session, protocol, answer)
    }

    /// `GET` or `POST /pods/NAME/portforward`
    pub(super) fn forward(&self, request: &Request, user: &str, target: &Target) -> Result<Reply, ApiError> {
        let pod = self.running(request, user, target)?;
        let mut ports = Vec::new();
        for word in request
            .query_all("ports")
            .iter()
            .flat_map(|value| value.split(','))
        {
            let port = word.parse().ok().filter(|port| *port > 0);
            ports.push(port.ok_or_else(|| ApiError::bad_request(format!("\"{word}\" is no port")))?);
        }
        if ports.len() > PORTS {
            return Err(ApiError::bad_request(format!("more than {PORTS} ports")));
        }
        let (protocol, answer) = negotiate(&request.headers, Purpose::Forward)?;
        let session = Session::Forward(Forward {
            pod: meta::name(&pod).to_owned(),
            address: pod["status"]["podIP"].as_str().unwrap_or_default().to_owned(),
            ports,
        });
        self.begin(session, protocol, answer)
    }

    fn begin(
        &self,
        session: Session,
        protocol: Protocol,
        answer: response::Builder,
    ) -> Result<Reply, ApiError> {
        let place = Arc::clone(&self.sessions)
            .try_acquire_owned()
            .map_err(|_| ApiError::too_many(format!("{SESSIONS} sessions of exec and port-forward run")))?;
        let serve = async move |raw| {
            session.serve(raw, protocol).await;
            drop(place);
        };
        Ok(Reply::switching(answer, Switch::to(serve)))
    }

    /// The pod of a session, if it runs and the client may enter it.
    fn running(&self, request: &Request, user: &str, target: &Target) -> Result<Arc<Value>, ApiError> {
        // Whoever has a pod's token may change objects, as agents must; entering other pods is no part of that.
        if user != super::ADMIN {
            return Err(ApiError::forbidden(format!(
                "\"{user}\" cannot enter pods: use the kubeconfig that 'howdah kubeconfig' names"
            )));
        }
        let pod = self.fetch(target)?;
        let container = &pod["spec"]["containers"][0];
        let named = request.query("container");
        if !named.is_empty() && container["name"] != named {
            return Err(ApiError::bad_request(format!(
                "container {named} is not valid for pod {}",
                meta::name(&pod)
            )));
        }
        if pod["status"]["containerStatuses"][0]["state"]["running"].is_null() {
            let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            return Err(ApiError::bad_request(format!(
                "container {} of pod {} does not run: {}",
                container["name"].as_str().unwrap_or_default(),
                meta::name(&pod),
                state["message"].as_str().unwrap_or("it has not started")
            )));
        }
        Ok(pod)
    }
}

/// A word of a command line that names a file of the pod by its absolute path, as the path that it has on this machine. Other
/// files are the machine's: programs, libraries.
fn inside(root: &Path, word: String) -> String {
    let Some(relative) = word.strip_prefix('/') else {
        return word;
    };
    let there = root.join(relative);
    let climbs = relative.split('/').any(|part| part == "..");
    match there.to_str() {
        Some(path) if !climbs && there.exists() => path.to_owned(),
        _ => word,
    }
}

/// The command line of `kubectl cp` from a pod, `tar cf - PATH…`, for paths of the pod: the names in the archive are the paths
/// without their first slash, so that tar must work in the pod's root.
fn packed(root: &Path, line: &[String]) -> Option<Vec<String>> {
    let [tar, cf, dash, paths @ ..] = line else {
        return None;
    };
    if (tar.as_str(), cf.as_str(), dash.as_str()) != ("tar", "cf", "-") || paths.is_empty() {
        return None;
    }
    let mut out = vec![tar.clone(), cf.clone(), dash.clone()];
    for path in paths {
        (inside(root, path.clone()) != *path).then_some(())?;
        out.push(path.trim_start_matches('/').to_owned());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{inside, packed};

    #[test]
    fn paths_of_the_pod_are_found_and_others_are_the_machine_s() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("home/postgres")).unwrap();
        let inside = |word: &str| inside(root.path(), word.to_owned());
        let home = root.path().join("home/postgres");
        assert_eq!(inside("/home/postgres"), home.to_str().unwrap());
        for word in ["/bin/sh", "home/postgres", "-c", "/home/../home/postgres", ""] {
            assert_eq!(inside(word), word);
        }
        let line = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
        let copy = packed(root.path(), &line(&["tar", "cf", "-", "/home/postgres"]));
        assert_eq!(copy.unwrap(), line(&["tar", "cf", "-", "home/postgres"]));
        assert_eq!(
            packed(root.path(), &line(&["tar", "cf", "-", "/etc/passwd"])),
            None
        );
        assert_eq!(
            packed(root.path(), &line(&["tar", "xf", "-", "/home/postgres"])),
            None
        );
    }
}
