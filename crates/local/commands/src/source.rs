//! Where manifests are read from: files, directories, the standard input, the web.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use howdah_clock::now;
use howdah_http::{Client, Method, Response, Url, client_tls};
use howdah_types::BootTime;

/// A text with the name of its place.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// How long a download may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Debian's bundle of public authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A server may lead elsewhere so often.
const REDIRECTIONS: usize = 5;
/// More is no manifest.
const LARGEST: usize = 16 << 20;

/// All texts that the arguments name, in order. `-` is the standard input; a directory stands for its YAML and JSON files by
/// name; `http://` and `https://` are fetched.
pub(crate) async fn sources(places: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut out = Vec::new();
    for place in places {
        let shown = place.display().to_string();
        if shown == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("reading the standard input")?;
            out.push(Source { name: shown, text });
        } else if shown.starts_with("http://") || shown.starts_with("https://") {
            let text = fetched(&shown).await?;
            out.push(Source { name: shown, text });
        } else if place.is_dir() {
            out.extend(of_directory(place)?);
        } else {
            out.push(file(place)?);
        }
    }
    Ok(out)
}

fn file(path: &Path) -> anyhow::Result<Source> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(Source {
        name: path.display().to_string(),
        text,
    })
}

fn of_directory(dir: &Path) -> anyhow::Result<Vec<Source>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| dir.display().to_string())?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            path.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
        })
        .collect();
    files.sort();
    ensure!(
        !files.is_empty(),
        "{} has no file that ends in .yaml, .yml or .json",
        dir.display()
    );
    files.iter().map(|path| file(path)).collect()
}

async fn fetched(address: &str) -> anyhow::Result<String> {
    let deadline = now() + PATIENCE;
    let mut at = address.to_owned();
    let mut answer = get(&at, deadline).await?;
    for _ in 0..REDIRECTIONS {
        let Some(next) = answer.location().filter(|_| (300..400).contains(&answer.status)) else {
            break;
        };
        let next = resolved(&at, next)?;
        ensure!(
            next.starts_with("https://") || !at.starts_with("https://"),
            "{address}: the server leads from https to {next}, which anybody on the way can change"
        );
        at = next;
        answer = get(&at, deadline).await?;
    }
    if (300..400).contains(&answer.status) {
        bail!("{address}: the server leads elsewhere again and again, at last to {at}");
    }
    if answer.status != 200 {
        bail!("{address}: the server answered with status {}", answer.status);
    }
    ensure!(
        answer.body.len() <= LARGEST,
        "{address}: {} bytes are too many for a manifest",
        answer.body.len()
    );
    String::from_utf8(answer.body.to_vec()).with_context(|| format!("{address}: not text"))
}

async fn get(address: &str, deadline: BootTime) -> anyhow::Result<Response> {
    let url = Url::parse(address).with_context(|| address.to_owned())?;
    let tls = if address.starts_with("https://") {
        Some(client_tls(Some(Path::new(AUTHORITIES)), None, false).context(AUTHORITIES)?)
    } else {
        None
    };
    Client::new(tls)
        .request(Method::GET, &url, None, deadline)
        .await
        .with_context(|| address.to_owned())
}

/// The address that a redirection from `at` leads to.
fn resolved(at: &str, location: &str) -> anyhow::Result<String> {
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let base = Url::parse(at)?.base();
    match location.strip_prefix('/') {
        Some(path) => Ok(format!("{base}/{path}")),
        None => {
            let folder = at.rsplit_once('/').map_or(at, |(folder, _)| folder);
            Ok(format!("{folder}/{location}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_lead_on() {
        let at = "https://a.example/x/y.yaml";
        assert_eq!(
            resolved(at, "https://b.example/z").unwrap(),
            "https://b.example/z"
        );
        assert_eq!(resolved(at, "/z").unwrap(), "https://a.example:443/z");
        assert_eq!(resolved(at, "z").unwrap(), "https://a.example/x/z");
    }

    #[tokio::test]
    async fn a_directory_stands_for_its_manifests_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yaml", "b"), ("a.yml", "a"), ("notes.txt", "x")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = sources(&[dir.path().to_owned()]).await.unwrap();
        let texts: Vec<&str> = found.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a", "b"]);
        let empty = tempfile::tempdir().unwrap();
        let error = sources(&[empty.path().to_owned()]).await.err().unwrap();
        assert!(error.to_string().contains("has no file"), "{error}");
    }
}
