use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use howdah_blueprint::{Person, TeamMap, people as people_of, teams as teams_of};
use howdah_clock::now;
use howdah_http::{Client, Method, Pem, Url, client_tls_of};
use howdah_manifest::{GROUP, VERSION};
use howdah_types::BootTime;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use super::place;
use crate::{
    context::Context,
    error::kube_text,
    known::{AGE, AGE_OF_SILENCE},
};

/// The teams API answers within this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// The certificates that Debian and others trust.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The people with roles in the clusters of a team; whether all of them are known; what is not.
pub(super) async fn people(context: &Context, team: &str) -> (Vec<Person>, bool, Vec<String>) {
    let of = &context.settings.teams;
    let asks_api = of.enable_teams_api && context.asks_teams;
    if !asks_api && !of.enable_postgres_team_crd {
        return (Vec::new(), false, Vec::new());
    }
    let mut notes = Vec::new();
    // Without the API, which the configuration asks for, it is not known who has left.
    let mut known = asks_api || !of.enable_teams_api;
    let mut map = TeamMap::default();
    if of.enable_postgres_team_crd {
        match context.known_sources.teams.get("", age, objects(context)).await {
            Ok((found, wrong)) => {
                map = found;
                notes.extend(wrong);
            }
            Err(why) => notes.push(format!("PostgresTeam objects cannot be read: {why}")),
        }
    }
    let teams = teams_of(team, &map, &context.settings);
    let mut answers = BTreeMap::new();
    if asks_api {
        let deadline = now() + PATIENCE;
        for team in teams.keys() {
            match context
                .known_sources
                .members
                .get(team, age, members(context, team, deadline))
                .await
            {
                Ok(Some(found)) => {
                    answers.insert(team.clone(), found);
                }
                Ok(None) => {
                    // It may be the wrong address as well: nobody has left.
                    known = false;
                    notes.push(format!(
                        "the teams API does not know team {team}: roles of its people stay as they are"
                    ));
                }
                Err(why) => notes.push(format!(
                    "the people of team {team} are not known, and their roles stay as they are: {why}"
                )),
            }
        }
    }
    let people = people_of(&teams, &map, &context.settings, &answers);
    (people, known && notes.is_empty(), notes)
}

/// What all `PostgresTeam` objects say together.
async fn objects(context: &Context) -> Result<(TeamMap, Vec<String>), String> {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, "PostgresTeam");
    let resource = ApiResource::from_gvk_with_plural(&kind, "postgresteams");
    let client = context.client.clone();
    let api: Api<DynamicObject> = match &context.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let found = api
        .list(&ListParams::default())
        .await
        .map_err(|error| kube_text(&error))?;
    let (mut map, mut wrong) = (TeamMap::default(), Vec::new());
    for object in found.items {
        let name = object.metadata.name.clone().unwrap_or_default();
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        match serde_json::from_value::<TeamMap>(spec) {
            Ok(read) => map.merge(read),
            Err(error) => wrong.push(format!("PostgresTeam {name}: {error}")),
        }
    }
    Ok((map, wrong))
}

/// The people of a team, as the teams API says; `None`: it does not know the team.
async fn members(context: &Context, team: &str, deadline: BootTime) -> Result<Option<Vec<String>>, String> {
    let base = &context.settings.teams.teams_api_url;
    let silent = context.known_sources.silent.lock().clone();
    if let Some((at, why)) = silent
        && now() < at + AGE_OF_SILENCE
    {
        // One look at it is enough for all teams.
        return Err(why);
    }
    let token = token(context).await?;
    let url = format!("{}/teams/{}", base.trim_end_matches('/'), escaped(team));
    let url = Url::parse(&url).map_err(|error| format!("teams_api_url: {error}"))?;
    let tls = if url.secure { Some(trusted().await?) } else { None };
    let client = Client::new(tls).with_authorization(Some(format!("Bearer {token}")));
    let asked = client.request(Method::GET, &url, None, deadline).await;
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => {
            let why = format!("the teams API at {base}: {error}");
            *context.known_sources.silent.lock() = Some((now(), why.clone()));
            return Err(why);
        }
    };
    match answer.status {
        200 => {}
        404 => return Ok(None),
        status => return Err(format!("the teams API answers {status}")),
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the teams API's answer is no JSON: {error}"))?;
    let names = body["member"].as_array();
    let names = names.ok_or("the teams API's answer has no list 'member'")?;
    let names = names.iter().filter_map(Value::as_str);
    Ok(Some(names.map(str::to_owned).collect()))
}

fn age<T>(read: &Result<T, String>) -> Duration {
    if read.is_ok() { AGE } else { AGE_OF_SILENCE }
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let bytes = name.bytes();
    bytes
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// The token for the teams API.
async fn token(context: &Context) -> Result<String, String> {
    let (namespace, name) = place(context, &context.settings.teams.oauth_token_secret_name);
    let api = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let secret = api.get_opt(name).await.map_err(|error| kube_text(&error))?;
    let secret =
        secret.ok_or_else(|| format!("there is no Secret {namespace}/{name} (oauth_token_secret_name)"))?;
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone())
            .ok()
            .map(|text| text.trim().to_owned())
    };
    if text("read-only-token-type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(format!(
            "Secret {namespace}/{name}: read-only-token-type is not Bearer"
        ));
    }
    let token = text("read-only-token-secret").filter(|token| !token.is_empty());
    token.ok_or_else(|| format!("Secret {namespace}/{name} has no read-only-token-secret"))
}

/// TLS with the certificates that this machine trusts.
async fn trusted() -> Result<std::sync::Arc<howdah_http::ClientConfig>, String> {
    let path = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from(TRUSTED), PathBuf::from);
    let text = tokio::fs::read(&path).await;
    let text = text.map_err(|error| format!("{}: {error}", Path::new(&path).display()))?;
    let of = path.display().to_string();
    client_tls_of(Some(&Pem { of, text }), None).map_err(|error| error.to_string())
}
