//! The people of teams: who has a role in a team's clusters, by `PostgresTeam` objects and the teams API.

use std::collections::{BTreeMap, BTreeSet};

use howdah_manifest::{is_reserved_role, is_role_name};
use serde::Deserialize;

use crate::Settings;

/// `spec` of a `PostgresTeam`, or of all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TeamMap {
    /// Teams whose people are superusers of a team's clusters.
    #[serde(deserialize_with = "lists_or_null")]
    pub additional_superuser_teams: BTreeMap<String, Vec<String>>,
    /// Teams whose people have roles in a team's clusters.
    #[serde(deserialize_with = "lists_or_null")]
    pub additional_teams: BTreeMap<String, Vec<String>>,
    /// People who have roles in a team's clusters.
    #[serde(deserialize_with = "lists_or_null")]
    pub additional_members: BTreeMap<String, Vec<String>>,
}

fn lists_or_null<'de, D: serde::Deserializer<'de>>(de: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let read: Option<BTreeMap<String, Option<Vec<String>>>> = Option::deserialize(de)?;
    let lists = read.unwrap_or_default().into_iter();
    Ok(lists
        .map(|(name, list)| (name, list.unwrap_or_default()))
        .collect())
}

/// Whether a person may have a role of this name: it is not PostgreSQL's, nor that of a group that people are members of.
#[must_use]
pub fn may_be_person(name: &str, settings: &Settings) -> bool {
    let groups = [&settings.pam_role_name, &settings.teams.team_admin_role];
    is_role_name(name) && !is_reserved_role(name) && !groups.contains(&&name.to_owned())
}

impl TeamMap {
    /// Adds what another object says.
    pub fn merge(&mut self, other: TeamMap) {
        for (into, from) in [
            (
                &mut self.additional_superuser_teams,
                other.additional_superuser_teams,
            ),
            (&mut self.additional_teams, other.additional_teams),
            (&mut self.additional_members, other.additional_members),
        ] {
            for (team, names) in from {
                let list = into.entry(team).or_default();
                names.into_iter().for_each(|name| {
                    if !list.contains(&name) {
                        list.push(name);
                    }
                });
            }
        }
    }

    /// The teams that a team's clusters are open to, through other teams as well; without the team itself.
    fn teams_of(&self, team: &str) -> BTreeSet<String> {
        self.reached(team, &self.additional_teams)
    }

    /// The same for superusers: their teams, and the teams that those are open to.
    fn superuser_teams_of(&self, team: &str) -> BTreeSet<String> {
        let first = self.additional_superuser_teams.get(team).into_iter().flatten();
        let mut out = BTreeSet::new();
        for direct in first {
            out.extend(self.reached(direct, &self.additional_superuser_teams));
            out.extend(self.teams_of(direct));
            out.insert(direct.clone());
        }
        out.remove(team);
        out
    }

    fn reached(&self, team: &str, by: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
        let (mut out, mut next) = (BTreeSet::new(), vec![team]);
        while let Some(from) = next.pop() {
            for to in by.get(from).into_iter().flatten() {
                if to != team && out.insert(to.clone()) {
                    next.push(to);
                }
            }
        }
        out
    }
}

/// A person with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The role.
    pub name: String,
    /// A superuser.
    pub is_superuser: bool,
}

/// Which teams have roles in the clusters of one team: of each, whether its people are superusers.
#[must_use]
pub fn teams(team: &str, map: &TeamMap, settings: &Settings) -> BTreeMap<String, bool> {
    let of = &settings.teams;
    let mut out = BTreeMap::new();
    if of.enable_postgres_team_crd {
        out.extend(map.teams_of(team).into_iter().map(|other| (other, false)));
        if of.enable_postgres_team_crd_superusers {
            out.extend(
                map.superuser_teams_of(team)
                    .into_iter()
                    .map(|other| (other, true)),
            );
        }
    }
    out.entry(team.to_owned()).or_insert(of.enable_team_superuser);
    out.extend(
        of.postgres_superuser_teams
            .iter()
            .map(|other| (other.clone(), true)),
    );
    out
}

/// The people of those teams, by what the teams API says of each. One who is a superuser through any team is one.
#[must_use]
pub fn people(
    teams: &BTreeMap<String, bool>,
    map: &TeamMap,
    settings: &Settings,
    answers: &BTreeMap<String, Vec<String>>,
) -> Vec<Person> {
    let mut out: BTreeMap<String, bool> = BTreeMap::new();
    for (team, is_superuser) in teams {
        let by_object = map.additional_members.get(team);
        let by_object = by_object.filter(|_| settings.teams.enable_postgres_team_crd);
        let by_api = answers.get(team);
        let all = by_object.into_iter().chain(by_api).flatten();
        for name in all.filter(|name| may_be_person(name, settings)) {
            *out.entry(name.clone()).or_default() |= is_superuser;
        }
    }
    let person = |(name, is_superuser)| Person { name, is_superuser };
    out.into_iter().map(person).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map() -> TeamMap {
        let of = |value| serde_json::from_value::<TeamMap>(value).unwrap();
        let mut map = of(json!({
            "additionalSuperuserTeams": {"acid": ["postgres_superusers"]},
            "additionalTeams": {"acid": ["foo"], "foo": ["bar"], "bar": ["acid", "foo"]},
            "additionalMembers": {"acid": ["elephant"], "bar": ["ant"]},
        }));
        map.merge(of(json!({
            "additionalTeams": {"postgres_superusers": ["dba"], "acid": ["foo"]},
            "additionalMembers": {"dba": ["ant"], "acid": ["elephant", "mouse"]},
        })));
        map
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.teams.enable_postgres_team_crd = true;
        settings
    }

    #[test]
    fn teams_are_reached_through_teams_and_circles_end() {
        let found = teams("acid", &map(), &settings());
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["acid", "bar", "foo"]);
        assert!(found.values().all(|is_superuser| !is_superuser));
        let mut with = settings();
        with.teams.enable_postgres_team_crd_superusers = true;
        with.teams.postgres_superuser_teams = vec!["bar".into()];
        let found = teams("acid", &map(), &with);
        assert!(found["postgres_superusers"] && found["dba"] && found["bar"] && !found["foo"]);
    }

    #[test]
    fn a_superuser_by_one_team_is_one_by_all() {
        let mut with = settings();
        with.teams.enable_postgres_team_crd_superusers = true;
        let found = teams("acid", &map(), &with);
        let answers = BTreeMap::from([("foo".to_owned(), vec!["bee".to_owned()])]);
        let people = people(&found, &map(), &with, &answers);
        let told: Vec<(&str, bool)> = people.iter().map(|p| (p.name.as_str(), p.is_superuser)).collect();
        assert_eq!(
            told,
            [
                ("ant", true),
                ("bee", false),
                ("elephant", false),
                ("mouse", false)
            ]
        );
    }

    #[test]
    fn names_that_no_person_may_have_are_left_out() {
        let map = serde_json::from_value::<TeamMap>(json!({
            "additionalTeams": {"acid": null},
            "additionalMembers": {"acid": ["pg_monitor", "zalandos", "admin", "Bad Name", "fine"]},
        }));
        let (map, settings) = (map.unwrap(), settings());
        let people = people(&teams("acid", &map, &settings), &map, &settings, &BTreeMap::new());
        assert_eq!(people.len(), 1);
        assert_eq!(people[0].name, "fine");
    }

    #[test]
    fn without_the_switch_objects_add_nothing() {
        let settings = Settings::default();
        let found = teams("acid", &map(), &settings);
        assert_eq!(found.len(), 1);
        assert!(people(&found, &map(), &settings, &BTreeMap::new()).is_empty());
    }
}
