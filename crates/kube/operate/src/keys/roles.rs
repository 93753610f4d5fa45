//! Keys of roles: passwords, teams, robots.

use howdah_blueprint::InfrastructureSecret;
use serde_json::Value;

use super::{
    Key, key, set,
    values::{boolean, list, map, number, object_reference, text},
};

pub(super) const KEYS: &[Key] = &[
    key("users", "additional_owner_roles", |said, v| {
        let names = list(v)?.into_iter().map(group).collect::<Result<_, _>>()?;
        set(&mut said.settings.additional_owner_roles, names)
    }),
    key("users", "enable_password_rotation", |said, v| {
        set(&mut said.settings.rotation.enable_password_rotation, boolean(v)?)
    }),
    key("users", "password_rotation_interval", |said, v| {
        set(&mut said.settings.rotation.password_rotation_interval, days(v)?)
    }),
    key("users", "password_rotation_user_retention", |said, v| {
        set(
            &mut said.settings.rotation.password_rotation_user_retention,
            days(v)?,
        )
    }),
    key("kubernetes", "infrastructure_roles_secret_name", |said, v| {
        let secret = InfrastructureSecret::numbered(&object_reference(text(v)?)?);
        said.settings.infrastructure.push(secret);
        Ok(())
    }),
    key("kubernetes", "infrastructure_roles_secrets", |said, v| {
        let all = match v {
            Value::Array(all) => all.clone(),
            // The flat form has one.
            Value::String(_) => vec![serde_json::to_value(map(v)?).unwrap_or_default()],
            _ => return Err("it must be a list".to_owned()),
        };
        for mut one in all {
            // Of the flat form all values are texts.
            if let Some(flag) = one.get_mut("template") {
                *flag = Value::Bool(boolean(flag)?);
            }
            let secret: InfrastructureSecret =
                serde_json::from_value(one).map_err(|error| format!("it is a list of Secrets: {error}"))?;
            if secret.secretname.is_empty() || secret.passwordkey.is_empty() {
                return Err("each needs secretname and passwordkey".to_owned());
            }
            object_reference(secret.secretname.clone())?;
            said.settings.infrastructure.push(secret);
        }
        Ok(())
    }),
    key("kubernetes", "oauth_token_secret_name", |said, v| {
        set(
            &mut said.settings.teams.oauth_token_secret_name,
            object_reference(text(v)?)?,
        )
    }),
    key("teams_api", "enable_teams_api", |said, v| {
        set(&mut said.settings.teams.enable_teams_api, boolean(v)?)
    }),
    key("teams_api", "teams_api_url", |said, v| {
        let url = text(v)?;
        let parsed = howdah_http::Url::parse(&url).map_err(|error| error.to_string())?;
        let is_plain = |c: char| c.is_ascii_graphic() && c != '@' && c != '#' && c != '?';
        if parsed.host.is_empty() || !url.chars().all(is_plain) {
            return Err("it is http[s]://HOST[:PORT][/PATH], without user, query and spaces".to_owned());
        }
        set(&mut said.settings.teams.teams_api_url, url)
    }),
    key("teams_api", "team_api_role_configuration", |said, v| {
        let parameters = map(v)?;
        let fits = |name: &String| {
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        };
        if let Some(name) = parameters.keys().find(|name| !fits(name)) {
            return Err(format!("'{name}' cannot be a parameter"));
        }
        set(&mut said.settings.teams.team_api_role_configuration, parameters)
    }),
    key("teams_api", "enable_team_superuser", |said, v| {
        set(&mut said.settings.teams.enable_team_superuser, boolean(v)?)
    }),
    key("teams_api", "team_admin_role", |said, v| {
        set(&mut said.settings.teams.team_admin_role, group(text(v)?)?)
    }),
    key("teams_api", "enable_admin_role_for_users", |said, v| {
        set(&mut said.settings.teams.enable_admin_role_for_users, boolean(v)?)
    }),
    key("teams_api", "pam_role_name", |said, v| {
        set(&mut said.settings.pam_role_name, group(text(v)?)?)
    }),
    key("teams_api", "pam_configuration", |said, v| {
        set(&mut said.settings.pam_configuration, text(v)?)
    }),
    key("teams_api", "protected_role_names", |said, v| {
        set(&mut said.settings.protected_role_names, list(v)?)
    }),
    key("teams_api", "postgres_superuser_teams", |said, v| {
        set(&mut said.settings.teams.postgres_superuser_teams, list(v)?)
    }),
    key("teams_api", "enable_postgres_team_crd", |said, v| {
        set(&mut said.settings.teams.enable_postgres_team_crd, boolean(v)?)
    }),
    key("teams_api", "enable_postgres_team_crd_superusers", |said, v| {
        set(
            &mut said.settings.teams.enable_postgres_team_crd_superusers,
            boolean(v)?,
        )
    }),
    key("teams_api", "enable_team_member_deprecation", |said, v| {
        set(
            &mut said.settings.teams.enable_team_member_deprecation,
            boolean(v)?,
        )
    }),
    key("teams_api", "role_deletion_suffix", |said, v| {
        let suffix = text(v)?;
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if !suffix.chars().all(inner) || suffix.len() > 30 {
            return Err(
                "it is a part of a role's name: a-z, 0-9, '-' and '_', at most 30 of them".to_owned(),
            );
        }
        set(&mut said.settings.teams.role_deletion_suffix, suffix)
    }),
];

/// A role that others are members of: PostgreSQL's own too.
fn group(name: String) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    if !name.is_empty() && name.len() <= 63 && name.chars().all(fits) && name != "public" && name != "none" {
        Ok(name)
    } else {
        Err(format!("'{name}' cannot be a role"))
    }
}

fn days(value: &Value) -> Result<u32, String> {
    let days = u32::try_from(number(value)?)
        .ok()
        .filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| "it is a number of days, 1 to 36500".to_owned())
}
