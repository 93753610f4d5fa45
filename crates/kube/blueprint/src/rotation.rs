//! When a role's password changes, and how: by a new role that is a member of the old one, or in place.
//!
//! The Secret keeps when it is next: `nextRotation`. Upstream's rules and names.

use howdah_manifest::Manifest;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use crate::{Credential, Origin, Settings};

/// What a role's Secret says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Who logs in with it: the role, or a newer one that is a member of it.
    pub username: String,
    /// The password.
    pub password: String,
    /// When it changes next; `None`: that was never said, or is no time.
    pub next: Option<Timestamp>,
}

/// What is to become of a role's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Nothing now.
    Stay,
    /// It is noted when it changes first.
    Plan(Timestamp),
    /// The role gets a new one.
    InPlace(Timestamp),
    /// A new role of this name gets one, and the Secret names it.
    NewRole(String, Timestamp),
    /// Passwords no longer change: the Secret names the role itself again, with a new one.
    Back,
}

/// No clock that is right shows an earlier time: one that was not set yet must not move all dates.
const EARLIEST: &str = "2026-01-01T00:00:00Z";

/// The longest name of a role to which a date can be added.
const LONGEST: usize = 57;

/// Decides for one role.
#[must_use]
pub fn rotation(
    credential: &Credential,
    login: &Login,
    manifest: &Manifest,
    settings: &Settings,
    now: Timestamp,
) -> Rotation {
    if EARLIEST.parse::<Timestamp>().is_ok_and(|earliest| now < earliest) {
        return Rotation::Stay;
    }
    let Some(in_place) = mode(credential, manifest, settings) else {
        let is_dated = dated_part(&credential.role, &login.username).is_some();
        return if is_dated && credential.password.is_none() {
            Rotation::Back
        } else {
            Rotation::Stay
        };
    };
    let interval = days(settings.rotation.password_rotation_interval.max(1));
    let Ok(later) = now.checked_add(interval) else {
        return Rotation::Stay;
    };
    let Some(next) = login.next else {
        return Rotation::Plan(later);
    };
    // The interval may have become shorter. A clock that was ahead for a while leaves a time that is too late as well.
    if next > later {
        return Rotation::Plan(later);
    }
    if now < next {
        return Rotation::Stay;
    }
    if in_place {
        return Rotation::InPlace(later);
    }
    let name = format!("{}{}", credential.role, date_of(now).strftime("%y%m%d"));
    if name == login.username {
        // Once a day.
        return Rotation::Plan(later);
    }
    Rotation::NewRole(name, later)
}

/// Whether a role's password changes: `Some(true)`: in place.
fn mode(credential: &Credential, manifest: &Manifest, settings: &Settings) -> Option<bool> {
    let spec = &manifest.spec;
    let named = |list: &Option<Vec<String>>| list.iter().flatten().any(|name| *name == credential.role);
    if named(&spec.users_ignoring_secret_rotation) || credential.is_system() {
        return None;
    }
    let is_fixed = credential.origin == Origin::Infrastructure;
    let in_place = named(&spec.users_with_in_place_secret_rotation);
    let by_role = named(&spec.users_with_secret_rotation);
    let by_all = settings.rotation.enable_password_rotation
        && !credential.is_owner
        && matches!(credential.origin, Origin::Manifest | Origin::Prepared);
    if is_fixed || !(in_place || by_role || by_all) {
        return None;
    }
    // Poolers look up passwords as one role; and a name may be too long for a date.
    Some(in_place || credential.origin == Origin::Pooler || credential.role.len() > LONGEST)
}

/// What a manifest asks for and does not get, each a sentence.
#[must_use]
pub fn not_rotated(manifest: &Manifest, credentials: &[Credential]) -> Vec<String> {
    let spec = &manifest.spec;
    let lists = [
        ("usersWithSecretRotation", &spec.users_with_secret_rotation),
        (
            "usersWithInPlaceSecretRotation",
            &spec.users_with_in_place_secret_rotation,
        ),
    ];
    let mut out = Vec::new();
    for (field, name) in lists
        .into_iter()
        .flat_map(|(field, list)| list.iter().flatten().map(move |name| (field, name)))
    {
        let found = credentials.iter().find(|credential| credential.role == *name);
        let why = match found {
            None => "is no user with a Secret",
            Some(credential) if credential.is_system() => {
                "is in the pods' environment: its password is changed by hand (docs/passwords.md)"
            }
            Some(credential) if credential.origin == Origin::Infrastructure => {
                "has its password from the operator's own Secret"
            }
            Some(credential) if field == "usersWithSecretRotation" && credential.origin == Origin::Pooler => {
                "is the poolers' role: its password changes in place"
            }
            Some(credential) if field == "usersWithSecretRotation" && credential.role.len() > LONGEST => {
                "has a name that is too long for a date: its password changes in place"
            }
            Some(_) => continue,
        };
        out.push(format!("spec.{field}: '{name}' {why}"));
    }
    out
}

/// The day of the newer role of a base; `None`: it is no such role.
#[must_use]
pub fn dated_part(base: &str, name: &str) -> Option<Date> {
    let digits = name.strip_prefix(base)?;
    if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Date::strptime("%Y%m%d", format!("20{digits}")).ok()
}

/// Of the dated roles of a base, those that are old enough to be dropped: not the present one, nor the one before it.
#[must_use]
pub fn outdated<'a>(
    base: &str,
    present: &str,
    roles: &[&'a str],
    settings: &Settings,
    now: Timestamp,
) -> Vec<&'a str> {
    let of = settings.rotation;
    let retention = of
        .password_rotation_user_retention
        .max(of.password_rotation_interval.saturating_mul(2));
    let Ok(limit) = now.checked_sub(days(retention)) else {
        return Vec::new();
    };
    let limit = date_of(limit);
    let mut dated: Vec<(Date, &str)> = roles
        .iter()
        .filter(|name| **name != present)
        .filter_map(|name| Some((dated_part(base, name)?, *name)))
        .collect();
    dated.sort_unstable();
    // What was in the Secret before may still be in use, whatever the clock says.
    dated.pop();
    dated
        .into_iter()
        .filter(|(day, _)| *day < limit)
        .map(|(_, name)| name)
        .collect()
}

fn days(count: u32) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(count.min(36_500)))
}

fn date_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{OtherRoles, credentials};

    fn manifest(users: &Value, more: &Value) -> Manifest {
        let mut object = json!({
            "metadata": {"name": "acid-a", "namespace": "default"},
            "spec": {
                "teamId": "acid", "numberOfInstances": 1, "volume": {"size": "1Gi"},
                "postgresql": {"version": "18"}, "users": users, "databases": {"shop": "owner"},
            },
        });
        let spec = object["spec"].as_object_mut().unwrap();
        spec.extend(more.as_object().unwrap().clone());
        Manifest::read(&object).unwrap()
    }

    fn all(manifest: &Manifest, settings: &Settings) -> BTreeMap<String, Credential> {
        let found = credentials(manifest, settings, &OtherRoles::default());
        found
            .into_iter()
            .map(|credential| (credential.role.clone(), credential))
            .collect()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn login(username: &str, next: Option<&str>) -> Login {
        Login {
            username: username.into(),
            password: "x".into(),
            next: next.map(time),
        }
    }

    #[test]
    fn what_changes_is_what_upstream_changes() {
        let manifest = manifest(
            &json!({"app": [], "owner": [], "quiet": [], "listed": [], "placed": []}),
            &json!({
                "usersIgnoringSecretRotation": ["quiet"], "usersWithSecretRotation": ["listed", "owner", "postgres", "ghost"],
                "usersWithInPlaceSecretRotation": ["placed", "pooler"], "enableConnectionPooler": true,
                "preparedDatabases": {"bar": {"defaultUsers": true}},
            }),
        );
        // Upstream's image of members has no pooler.
        let mut settings = Settings {
            docker_image: "howdah:1".into(),
            ..Settings::default()
        };
        let now = time("2026-11-28T10:00:00Z");
        let kinds = |settings: &Settings| {
            let all = all(&manifest, settings);
            let due = |credential: &Credential| {
                let login = login(&credential.role, Some("2026-11-28T09:00:00Z"));
                match rotation(credential, &login, &manifest, settings, now) {
                    Rotation::NewRole(name, _) => Some(name),
                    Rotation::InPlace(_) => Some(format!("{} in place", credential.role)),
                    _ => None,
                }
            };
            all.values().filter_map(due).collect::<Vec<_>>()
        };
        assert_eq!(
            kinds(&settings),
            [
                "listed261128",
                "owner261128",
                "placed in place",
                "pooler in place"
            ]
        );
        settings.rotation.enable_password_rotation = true;
        assert_eq!(
            kinds(&settings),
            [
                "app261128",
                "bar_owner_user261128",
                "bar_reader_user261128",
                "bar_writer_user261128",
                "listed261128",
                "owner261128",
                "placed in place",
                "pooler in place"
            ]
        );
        let credentials: Vec<Credential> = all(&manifest, &settings).into_values().collect();
        let told = not_rotated(&manifest, &credentials);
        assert!(
            told.len() == 2 && told[0].contains("'postgres' is in") && told[1].contains("'ghost' is no"),
            "{told:?}"
        );
    }

    #[test]
    fn the_first_time_is_noted_and_a_shorter_interval_counts() {
        let manifest = manifest(&json!({"app": []}), &json!({"usersWithSecretRotation": ["app"]}));
        let settings = Settings::default();
        let app = &all(&manifest, &settings)["app"];
        let decide = |login: &Login, now: &str| rotation(app, login, &manifest, &settings, time(now));
        let next = time("2027-02-26T00:00:00Z");
        assert_eq!(
            decide(&login("app", None), "2026-11-28T00:00:00Z"),
            Rotation::Plan(next)
        );
        assert_eq!(
            decide(
                &login("app", Some("2027-02-26T00:00:00Z")),
                "2026-11-28T00:00:00Z"
            ),
            Rotation::Stay
        );
        assert_eq!(
            decide(
                &login("app", Some("2028-01-01T00:00:00Z")),
                "2026-11-28T00:00:00Z"
            ),
            Rotation::Plan(next)
        );
        // On the day of a rotation there is no second one.
        assert!(matches!(
            decide(
                &login("app261128", Some("2026-11-28T01:00:00Z")),
                "2026-11-28T02:00:00Z"
            ),
            Rotation::Plan(_)
        ));
    }

    #[test]
    fn without_rotation_the_role_itself_comes_back() {
        let manifest = manifest(&json!({"app": []}), &json!({}));
        let settings = Settings::default();
        let app = &all(&manifest, &settings)["app"];
        let decide = |login: &Login| rotation(app, login, &manifest, &settings, time("2026-11-28T00:00:00Z"));
        assert_eq!(decide(&login("app261101", None)), Rotation::Back);
        assert_eq!(
            decide(&login("app", Some("2026-01-01T00:00:00Z"))),
            Rotation::Stay
        );
        // A name that a user has chosen is no date.
        assert_eq!(decide(&login("app269901", None)), Rotation::Stay);
    }

    /// A year of passes, one a day, over fifty roles.
    #[test]
    fn a_year_of_rotations_leaves_few_roles_and_keeps_the_last_two() {
        let users: serde_json::Map<String, Value> = (0..50).map(|n| (format!("app{n}"), json!([]))).collect();
        let manifest = manifest(&Value::Object(users), &json!({}));
        let mut settings = Settings::default();
        settings.rotation.enable_password_rotation = true;
        settings.rotation.password_rotation_interval = 30;
        settings.rotation.password_rotation_user_retention = 10;
        let all = all(&manifest, &settings);
        let mut logins: BTreeMap<&str, Login> = all
            .iter()
            .filter(|(_, of)| of.origin == Origin::Manifest)
            .map(|(role, _)| (role.as_str(), login(role, None)))
            .collect();
        let mut roles: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut rotations = 0;
        for day in 0..365 {
            let now = time("2026-01-01T00:00:00Z").checked_add(days(day)).unwrap();
            for (role, login) in &mut logins {
                match rotation(&all[*role], login, &manifest, &settings, now) {
                    Rotation::Plan(next) => login.next = Some(next),
                    Rotation::NewRole(name, next) => {
                        rotations += 1;
                        let of = roles.entry(role).or_default();
                        of.push(name.clone());
                        *login = Login {
                            username: name.clone(),
                            password: "y".into(),
                            next: Some(next),
                        };
                        let have: Vec<&str> = of.iter().map(String::as_str).collect();
                        let gone: Vec<String> = outdated(role, &name, &have, &settings, now)
                            .into_iter()
                            .map(str::to_owned)
                            .collect();
                        // Twice the interval at least, whatever the retention says.
                        assert!(gone.iter().all(|name| dated_part(role, name).unwrap()
                            < date_of(now.checked_sub(days(60)).unwrap())));
                        assert!(!gone.contains(&name));
                        of.retain(|name| !gone.contains(name));
                        assert!(of.len() <= 4, "{of:?}");
                    }
                    Rotation::Stay => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(rotations, 50 * 12);
        // A clock that jumps ten years ahead leaves the present role and the one before it.
        let late = time("2036-01-01T00:00:00Z");
        let of = &roles["app7"];
        let have: Vec<&str> = of.iter().map(String::as_str).collect();
        let gone = outdated("app7", of.last().unwrap(), &have, &settings, late);
        assert_eq!(gone.len(), of.len() - 2);
    }

    #[test]
    fn a_clock_that_was_not_set_moves_no_date() {
        let manifest = manifest(&json!({"app": []}), &json!({"usersWithSecretRotation": ["app"]}));
        let settings = Settings::default();
        let app = &all(&manifest, &settings)["app"];
        let known = login("app", Some("2027-01-01T00:00:00Z"));
        assert_eq!(
            rotation(app, &known, &manifest, &settings, Timestamp::UNIX_EPOCH),
            Rotation::Stay
        );
    }

    #[test]
    fn another_role_of_a_like_name_is_no_dated_one() {
        assert!(dated_part("app", "app261128").is_some());
        for other in ["app2611281", "app26112", "app_261128", "ap261128", "app261328"] {
            assert!(dated_part("app", other).is_none(), "{other}");
        }
    }
}
