//! Certificates of the server and of the REST API: files that are mounted, contents from variables, or our own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use howdah_spilo::{Certificates, Environment, Facts};

use crate::write_private;

/// The server's. Without any, one that the server signs itself, as the image does: it keeps passwords from being read on the
/// way, and proves nothing to a client. Made once for each pod.
pub(crate) fn of_server(env: &Environment, facts: &Facts, directory: &Path) -> anyhow::Result<Certificates> {
    let given = given(env, facts, directory, "SSL_", "server")?;
    let is_own = given.is_none();
    let (certificate, key) =
        given.unwrap_or_else(|| (directory.join("server.crt"), directory.join("server.key")));
    let (has_certificate, has_key) = (certificate.exists(), key.exists());
    // Of our own, one without the other is what a container that was killed has left.
    let is_missing = if is_own {
        !has_certificate || !has_key
    } else {
        !has_certificate && !has_key
    };
    if is_missing {
        // The name in a certificate has ASCII letters alone, and this one proves nothing anyway.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let name = &facts.hostname.replace(|c| !is_plain(c), "-");
        make(&certificate, &key, name).with_context(|| {
            format!(
                "SSL_CERTIFICATE_FILE: there is no {}, and one of our own cannot be made there",
                certificate.display()
            )
        })?;
    }
    for (variable, path) in [
        ("SSL_CERTIFICATE_FILE", &certificate),
        ("SSL_PRIVATE_KEY_FILE", &key),
    ] {
        fs::metadata(path).with_context(|| format!("{variable}: {}", path.display()))?;
    }
    Ok(Certificates {
        certificate,
        key,
        ca: optional(env, facts, directory, "SSL_CA")?,
        crl: optional(env, facts, directory, "SSL_CRL")?,
    })
}

/// The REST API's; `None`: it speaks HTTP.
pub(crate) fn of_rest(
    env: &Environment,
    facts: &Facts,
    directory: &Path,
) -> anyhow::Result<Option<Certificates>> {
    let Some((certificate, key)) = given(env, facts, directory, "SSL_RESTAPI_", "restapi")? else {
        return Ok(None);
    };
    for (variable, path) in [
        ("SSL_RESTAPI_CERTIFICATE_FILE", &certificate),
        ("SSL_RESTAPI_PRIVATE_KEY_FILE", &key),
    ] {
        fs::metadata(path).with_context(|| format!("{variable}: {}", path.display()))?;
    }
    Ok(Some(Certificates {
        certificate,
        key,
        ca: optional(env, facts, directory, "SSL_RESTAPI_CA")?,
        crl: None,
    }))
}

/// A certificate and its key, as files or as contents, which are written to files.
fn given(
    env: &Environment,
    facts: &Facts,
    directory: &Path,
    prefix: &str,
    name: &str,
) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    let (certificate, key) = (format!("{prefix}CERTIFICATE"), format!("{prefix}PRIVATE_KEY"));
    let place = |variable: &str, end: &str| {
        let file = env.get(&format!("{variable}_FILE"));
        file.map_or_else(
            || directory.join(format!("{name}.{end}")),
            |path| facts.path(path),
        )
    };
    let (certificate_file, key_file) = (place(&certificate, "crt"), place(&key, "key"));
    match (env.get(&certificate), env.get(&key)) {
        (Some(text), Some(secret)) => {
            write(&key_file, secret)?;
            write(&certificate_file, text)?;
        }
        (None, None) => {}
        (Some(_), None) => anyhow::bail!("{certificate} is set without {key}"),
        (None, Some(_)) => anyhow::bail!("{key} is set without {certificate}"),
    }
    let is_named =
        |variable: &str| env.get(variable).is_some() || env.get(&format!("{variable}_FILE")).is_some();
    match (is_named(&certificate), is_named(&key)) {
        (true, true) => Ok(Some((certificate_file, key_file))),
        (false, false) => Ok(None),
        (true, false) => anyhow::bail!("{certificate}_FILE is set without {key}_FILE"),
        (false, true) => anyhow::bail!("{key}_FILE is set without {certificate}_FILE"),
    }
}

/// A file that need not be there: named, or with its content in a variable.
fn optional(
    env: &Environment,
    facts: &Facts,
    directory: &Path,
    variable: &str,
) -> anyhow::Result<Option<PathBuf>> {
    let file = format!("{variable}_FILE");
    let named = env.get(&file).map(|path| facts.path(path));
    match env.get(variable) {
        Some(text) => {
            let path =
                named.unwrap_or_else(|| directory.join(format!("{}.crt", variable.to_ascii_lowercase())));
            write(&path, text)?;
            Ok(Some(path))
        }
        None => match named {
            Some(path) => {
                fs::metadata(&path).with_context(|| format!("{file}: {}", path.display()))?;
                Ok(Some(path))
            }
            None => Ok(None),
        },
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
    }
    write_private(path, text)
}

pub(crate) fn make(certificate: &Path, key: &Path, name: &str) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
    write(key, &made.signing_key.serialize_pem())?;
    write(certificate, &made.cert.pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Environment {
        vars.iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn contents_become_files_and_half_a_pair_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let facts = Facts {
            root: root.path().to_owned(),
            hostname: "c-0".into(),
            ..Facts::default()
        };
        let certs = root.path().join("run/certs");
        let own = of_server(&env(&[]), &facts, &certs).unwrap();
        assert!(own.certificate.exists() && own.ca.is_none());
        assert_eq!(of_rest(&env(&[]), &facts, &certs).unwrap(), None);
        // A container that was killed between the two files has left one of them.
        fs::remove_file(&own.certificate).unwrap();
        let odd = Facts {
            hostname: "hö_st".into(),
            ..facts.clone()
        };
        assert!(of_server(&env(&[]), &odd, &certs).unwrap().certificate.exists());

        let with = env(&[
            ("SSL_CERTIFICATE", "C"),
            ("SSL_PRIVATE_KEY", "K"),
            ("SSL_PRIVATE_KEY_FILE", "/tls/tls.key"),
            ("SSL_CA", "A"),
        ]);
        let given = of_server(&with, &facts, &certs).unwrap();
        assert_eq!(given.key, root.path().join("tls/tls.key"));
        assert_eq!(fs::read_to_string(&given.key).unwrap(), "K");
        assert_eq!(fs::read_to_string(given.ca.unwrap()).unwrap(), "A");

        for half in ["SSL_CERTIFICATE", "SSL_PRIVATE_KEY_FILE"] {
            let error = of_server(&env(&[(half, "/x")]), &facts, &certs).unwrap_err();
            assert!(error.to_string().contains("without"), "{error}");
        }
        let missing = env(&[
            ("SSL_RESTAPI_CERTIFICATE_FILE", "/no"),
            ("SSL_RESTAPI_PRIVATE_KEY_FILE", "/no"),
        ]);
        let error = of_rest(&missing, &facts, &certs).unwrap_err();
        assert!(
            error.to_string().starts_with("SSL_RESTAPI_CERTIFICATE_FILE"),
            "{error}"
        );
    }
}
