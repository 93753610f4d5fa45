//! The Secrets of a cluster's login roles. An existing one wins: whoever makes it first chooses the password.

use std::collections::BTreeMap;

use howdah_blueprint::{
    CLUSTER_NAMESPACE_ANNOTATION, Credential, Login, POSTGRES_CONTAINER, dated_part, secret,
};
use howdah_clock::now;
use howdah_manifest::Manifest;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{apps::v1::StatefulSet, core::v1::Secret},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::{
    OperatorError,
    context::{Context, MANAGER, Memory},
    login::{NEXT, login_of, text_of},
    observe::Seen,
};

/// How the roles of a cluster log in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logins {
    /// Passwords by role.
    pub(crate) passwords: BTreeMap<String, String>,
    /// Newer roles, by the role that they are members of.
    pub(crate) rotated: BTreeMap<String, String>,
    /// What each Secret says, by its place.
    pub(crate) secrets: BTreeMap<String, Login>,
    /// Users whose Secret cannot be read, made or changed, each with the reason.
    pub(crate) failed: Vec<String>,
}

impl Logins {
    fn add(&mut self, credential: &Credential, login: Login, all: &[Credential]) {
        // Another user may have such a name.
        let is_newer = dated_part(&credential.role, &login.username).is_some()
            && all.iter().all(|other| other.role != login.username);
        // A name that a user has written into a Secret is not the operator's business.
        let role = if is_newer {
            self.rotated
                .insert(credential.role.clone(), login.username.clone());
            login.username.clone()
        } else {
            credential.role.clone()
        };
        self.passwords.insert(role, login.password.clone());
        self.secrets.insert(credential.place(), login);
    }
}

/// A Secret that could not be had is tried again after this time.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// Makes the Secrets that are missing, and reads all.
///
/// The password of a system role is in the pods as well, so a Secret that is gone gets the password that is remembered;
/// a new one would lock everybody out.
pub(crate) async fn logins(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    credentials: &[Credential],
    memory: &mut Memory,
) -> Result<Logins, OperatorError> {
    let mut out = Logins::default();
    memory.unwatched = false;
    for credential in credentials {
        let place = credential.place();
        let mut login = match seen.secrets.get(&place) {
            Some(Some(known)) => known.clone(),
            _ => match missing(context, manifest, seen, credential, credentials, memory).await? {
                Ok(login) => login,
                Err(why) => {
                    out.failed.push(format!("user {}: {why}", credential.role));
                    continue;
                }
            },
        };
        memory.unmade.remove(&place);
        if login.username.is_empty() {
            login.username.clone_from(&credential.role);
        }
        if let Some(password) = credential
            .password
            .as_ref()
            .filter(|password| **password != login.password || login.username != credential.role)
        {
            login.password.clone_from(password);
            login.username.clone_from(&credential.role);
            change(context, manifest, credential, &login, None).await?;
        }
        out.add(credential, login, credentials);
    }
    memory.passwords.clone_from(&out.passwords);
    // What could not be read now is remembered all the same.
    memory
        .logins
        .retain(|place, _| credentials.iter().any(|credential| credential.place() == *place));
    memory.logins.extend(out.secrets.clone());
    Ok(out)
}

/// Reads or makes a Secret that the index does not have. Where that concerns its user alone, a failure is no failure of the pass: the
/// reason is returned, and it is tried again after a while.
async fn missing(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    credential: &Credential,
    credentials: &[Credential],
    memory: &mut Memory,
) -> Result<Result<Login, String>, OperatorError> {
    let place = credential.place();
    if let Some((why, at)) = memory.unmade.get(&place)
        && now() < *at + AGAIN
    {
        return Ok(Err(why.clone()));
    }
    match read_or_make(context, manifest, seen, credential, credentials, memory).await {
        Ok(login) => {
            // A Secret that a user has made may lack the labels by which the index finds it, and one of another namespace may not be
            // watched. Its end is then not reported.
            memory.unwatched = true;
            Ok(Ok(login))
        }
        Err(error) if is_soft(credential, &error) => {
            let why = error.in_one_line();
            memory.unmade.insert(place, (why.clone(), now()));
            Ok(Err(why))
        }
        Err(error) => Err(error),
    }
}

/// Whether a Secret that cannot be had concerns its user alone.
fn is_soft(credential: &Credential, error: &OperatorError) -> bool {
    let is_missing = matches!(error, OperatorError::Missing(_));
    !credential.is_system() && (is_missing || (credential.namespace.is_some() && error.is_answered()))
}

/// Where a role's Secret is.
pub(crate) fn place<'a>(manifest: &'a Manifest, credential: &'a Credential) -> &'a str {
    credential.namespace.as_deref().unwrap_or(&manifest.namespace)
}

async fn read_or_make(
    context: &Context,
    manifest: &Manifest,
    seen: &Seen,
    credential: &Credential,
    credentials: &[Credential],
    memory: &Memory,
) -> Result<Login, OperatorError> {
    let api = Api::<Secret>::namespaced(context.client.clone(), place(manifest, credential));
    let name = &credential.secret;
    let reading = || OperatorError::kube(format!("reading Secret {name}"));
    // Of a new cluster, Secrets are mostly missing: an attempt to make one tells as much as a look at it.
    let mut found = None;
    if seen.statefulset.is_some() {
        found = api.get_opt(name).await.map_err(reading())?;
    }
    if found.is_none() {
        let known = memory
            .logins
            .get(&credential.place())
            .or_else(|| renamed(seen, credential, credentials));
        let login = match (&credential.password, known) {
            (Some(password), _) => Login {
                username: credential.role.clone(),
                password: password.clone(),
                next: None,
            },
            (None, Some(known)) => known.clone(),
            (None, None) if credential.is_system() && seen.statefulset.is_some() => {
                return Err(OperatorError::Missing(format!(
                    "Secret {name} is gone, and with it the password of {}, which the pods have: put the Secret back \
                     (username, password)",
                    credential.role
                )));
            }
            (None, None) => Login {
                username: credential.role.clone(),
                password: password()?,
                next: None,
            },
        };
        let mut made = secret(
            manifest,
            &context.settings,
            credential,
            &login.username,
            &login.password,
        );
        if let (Some(next), Some(data)) = (login.next, &mut made.string_data) {
            data.insert(NEXT.to_owned(), text_of(next));
        }
        match api.create(&PostParams::default(), &made).await {
            Ok(secret) => {
                if credential.namespace.is_none() {
                    context.wrote(&secret);
                }
                found = Some(secret);
            }
            // The Secret of another client counts. A quota refuses before the API looks whether there is one.
            Err(error @ kube::Error::Api(_)) => {
                found = api.get_opt(name).await.map_err(reading())?;
                if found.is_none() {
                    return Err(OperatorError::kube(format!("making Secret {name}"))(error));
                }
            }
            Err(error) => return Err(OperatorError::kube(format!("making Secret {name}"))(error)),
        }
    }
    let meta = found.as_ref().map(|secret| &secret.metadata);
    let home = meta.and_then(|meta| meta.annotations.as_ref()?.get(CLUSTER_NAMESPACE_ANNOTATION));
    // One without labels was made by a user.
    let label = meta.and_then(|meta| meta.labels.as_ref()?.get(&context.settings.cluster_name_label));
    let is_anothers = home.map_or(label.is_some(), |home| *home != manifest.namespace);
    if credential.namespace.is_some() && is_anothers {
        return Err(OperatorError::Missing(format!(
            "Secret {name} belongs to another cluster of this name: name the user otherwise"
        )));
    }
    let login = found.as_ref().and_then(login_of);
    login.ok_or_else(|| OperatorError::Missing(format!("Secret {name} has no password")))
}

/// What a Secret of the cluster says that has another name, since the names of Secrets have changed. For a system role that is the
/// Secret from which the pods have its password.
fn renamed<'a>(seen: &'a Seen, credential: &Credential, all: &[Credential]) -> Option<&'a Login> {
    if credential.is_system() {
        let name = seen
            .statefulset
            .as_ref()
            .and_then(|set| secret_of(set, &credential.role))?;
        return seen.secrets.get(&name)?.as_ref();
    }
    let is_others = |place: &str, login: &Login| {
        all.iter().any(|other| {
            other.place() == place || (other.role != credential.role && other.role == login.username)
        })
    };
    let is_its = |login: &Login| {
        login.username == credential.role || dated_part(&credential.role, &login.username).is_some()
    };
    let own = seen.secrets.iter().filter(|(place, _)| !place.contains('/'));
    let known = own.filter_map(|(place, login)| Some((place, login.as_ref()?)));
    let mut fits = known.filter(|(place, login)| is_its(login) && !is_others(place, login));
    fits.next().map(|(_, login)| login)
}

/// The Secret that the members have a system role's password from.
fn secret_of(set: &StatefulSet, role: &str) -> Option<String> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    let container = pod
        .containers
        .iter()
        .find(|container| container.name == POSTGRES_CONTAINER)?;
    let env = container.env.as_ref()?;
    let is_of_role = |user: &str| {
        let mut all = env.iter();
        all.any(|var| var.name == user && var.value.as_deref() == Some(role))
    };
    let password = match (is_of_role("PGUSER_SUPERUSER"), is_of_role("PGUSER_STANDBY")) {
        (true, _) => "PGPASSWORD_SUPERUSER",
        (false, true) => "PGPASSWORD_STANDBY",
        (false, false) => return None,
    };
    let var = env.iter().find(|var| var.name == password)?;
    Some(var.value_from.as_ref()?.secret_key_ref.as_ref()?.name.clone())
}

/// Notes in a Secret when its password changes next.
pub(crate) async fn note_next(
    context: &Context,
    manifest: &Manifest,
    credential: &Credential,
    next: Timestamp,
) -> Result<(), OperatorError> {
    let next = ByteString(text_of(next).into_bytes());
    patch(
        context,
        manifest,
        credential,
        json!({"data": {NEXT: next}}),
        false,
    )
    .await
}

/// Whether a Secret could be written as it is asked for: nothing is changed yet.
pub(crate) async fn could_change(
    context: &Context,
    manifest: &Manifest,
    credential: &Credential,
    login: &Login,
    version: Option<&str>,
) -> Result<(), OperatorError> {
    patch(context, manifest, credential, changed(login, version), true).await
}

/// Writes a Secret; with a version only if it still has that one.
pub(crate) async fn change(
    context: &Context,
    manifest: &Manifest,
    credential: &Credential,
    login: &Login,
    version: Option<&str>,
) -> Result<(), OperatorError> {
    patch(context, manifest, credential, changed(login, version), false).await
}

fn changed(login: &Login, version: Option<&str>) -> serde_json::Value {
    let bytes = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let next = login.next.map(|next| bytes(&text_of(next)));
    let mut change = json!({"data": {
        "username": bytes(&login.username), "password": bytes(&login.password), NEXT: next,
    }});
    if let Some(version) = version {
        change["metadata"] = json!({"resourceVersion": version});
    }
    change
}

async fn patch(
    context: &Context,
    manifest: &Manifest,
    credential: &Credential,
    change: serde_json::Value,
    dry_run: bool,
) -> Result<(), OperatorError> {
    let api = Api::<Secret>::namespaced(context.client.clone(), place(manifest, credential));
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        dry_run,
        ..PatchParams::default()
    };
    let what = format!("changing Secret {}", credential.secret);
    let written = api
        .patch(&credential.secret, &params, &Patch::Merge(change))
        .await;
    let written = written.map_err(OperatorError::kube(what))?;
    // What no watch reports must not be in the index.
    if !dry_run && credential.namespace.is_none() {
        context.wrote(&written);
    }
    Ok(())
}

/// 64 letters and digits.
pub(crate) fn password() -> Result<String, OperatorError> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = SystemRandom::new();
    let mut out = String::with_capacity(64);
    while out.len() < 64 {
        let mut bytes = [0u8; 96];
        random
            .fill(&mut bytes)
            .map_err(|_| OperatorError::Machine("no random numbers"))?;
        // Bytes beyond the last whole multiple of 62 would make some letters likelier than others.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        out.extend(fair.map(|byte| char::from(LETTERS[usize::from(*byte) % 62])));
    }
    out.truncate(64);
    Ok(out)
}
