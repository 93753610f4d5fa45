//! Certificates that are replaced while the agent runs: PostgreSQL and the REST API take them without being asked. Kubernetes
//! replaces those of a Secret within a minute or so, and cert-manager well before they end.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use howdah_clock::now;
use howdah_config::{Dynamic, LocalConfig};
use tokio::sync::watch;

use crate::{blocking::blocking, wake::Wake};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 10_000 });

/// The files of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files(Vec<PathBuf>);

impl Files {
    /// Those that PostgreSQL and the REST API serve with.
    pub(crate) fn of(local: &LocalConfig, dynamic: &Dynamic) -> Self {
        let data_dir = &local.postgresql.data_dir;
        let of_postgres = [
            "ssl_cert_file",
            "ssl_key_file",
            "ssl_ca_file",
            "ssl_crl_file",
            "ssl_crl_dir",
        ]
        .into_iter()
        .filter_map(|name| {
            let own = local.postgresql.parameters.get(name);
            own.or_else(|| dynamic.parameters.get(name))
        })
        .filter(|path| !path.is_empty())
        .map(|path| data_dir.join(path));
        let tls = local.restapi.tls.iter();
        let of_rest = tls.flat_map(|tls| {
            let both = [tls.certfile.clone(), tls.keyfile.clone()];
            both.into_iter().chain(tls.cafile.clone())
        });
        let mut files: Vec<PathBuf> = of_postgres.chain(of_rest).collect();
        files.sort();
        files.dedup();
        Files(files)
    }
}

/// What tells a file from the one that was in its place, or from itself before its owner or rights were changed: its device and
/// number, and when it was changed in whatever way.
type Mark = Option<(u64, u64, i64, i64)>;

/// By path.
type Marks = BTreeMap<PathBuf, Mark>;

fn marks(files: &Files) -> Marks {
    let mark = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
    };
    files.0.iter().map(|path| (path.clone(), mark(path))).collect()
}

/// The loop's end of the task that looks at the files.
pub(crate) struct Certificates {
    files: watch::Sender<Files>,
    /// How often they have changed.
    replaced: watch::Receiver<u64>,
}

impl Certificates {
    /// The loop's end, and the task: it wakes the loop at every change. Called before anything serves with the files.
    pub(crate) async fn watched(files: Files, wake: Wake) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let first = files.clone();
        let known = blocking("looking at certificates", move || marks(&first))
            .await
            .unwrap_or_default();
        let (files, of_files) = watch::channel(files);
        let (changed, replaced) = watch::channel(0);
        (
            Certificates { files, replaced },
            look_at(of_files, known, changed, wake),
        )
    }

    /// Whether files were replaced since the last call. From now on these are looked at.
    pub(crate) fn were_replaced(&mut self, files: Files) -> bool {
        self.files.send_if_modified(|known| {
            let changed = *known != files;
            *known = files;
            changed
        });
        let replaced = self.replaced.has_changed().unwrap_or(false);
        self.replaced.mark_unchanged();
        replaced
    }
}

async fn look_at(files: watch::Receiver<Files>, mut known: Marks, changed: watch::Sender<u64>, wake: Wake) {
    loop {
        let current = files.borrow().clone();
        // One at a time, however long a file system takes.
        if let Ok(seen) = blocking("looking at certificates", move || marks(&current)).await {
            let (next, is_changed) = compared(&known, seen);
            known = next;
            if is_changed {
                changed.send_modify(|times| *times += 1);
                wake.wake();
            }
        }
        howdah_http::sleep_until(now() + LOOK).await;
    }
}

/// What is known after a look, and whether files were replaced. A file that was there and is missing is being replaced: the others
/// wait for it. One that was never there is waited for by none.
fn compared(known: &Marks, seen: Marks) -> (Marks, bool) {
    let is_going = |(path, mark): (&PathBuf, &Mark)| {
        let before = known.get(path);
        mark.is_none() && before.is_some_and(Option::is_some)
    };
    if seen.iter().any(is_going) {
        return (known.clone(), false);
    }
    let is_other = |(path, mark): (&PathBuf, &Mark)| known.get(path).is_some_and(|before| before != mark);
    let changed = seen.iter().any(is_other);
    (seen, changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_noticed_and_a_missing_one_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.crt");
        fs::write(&path, "1").unwrap();
        // The other one is never there.
        let files = Files(vec![path.clone(), dir.path().join("crl")]);
        let wake = Wake::default();
        let (mut loop_end, task) = Certificates::watched(files.clone(), wake.clone()).await;
        let task = tokio::spawn(task);
        tokio::time::sleep(LOOK * 5).await;
        assert!(!loop_end.were_replaced(files.clone()));
        fs::remove_file(&path).unwrap();
        tokio::time::sleep(LOOK * 5).await;
        assert!(!loop_end.were_replaced(files.clone()));
        // Another file in its place, as Kubernetes replaces those of a Secret.
        fs::write(dir.path().join("new"), "22").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        wake.woken().await;
        assert!(loop_end.were_replaced(files.clone()));
        assert!(!loop_end.were_replaced(files));
        task.abort();
    }
}
