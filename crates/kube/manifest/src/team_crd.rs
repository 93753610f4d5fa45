use serde_json::{Value, json};

use crate::{CRD_REVISION, GROUP, VERSION};

/// The name of the CustomResourceDefinition of `PostgresTeam`.
pub const TEAM_CRD_NAME: &str = "postgresteams.acid.zalan.do";

/// The CustomResourceDefinition of `PostgresTeam`, ready to apply: upstream's three maps of teams and people.
#[must_use]
pub fn team_crd() -> Value {
    let map = |about: &str| {
        json!({
            "type": "object", "description": about,
            "additionalProperties": {"type": "array", "nullable": true, "items": {"type": "string"}},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": TEAM_CRD_NAME,
            "labels": {"app.kubernetes.io/name": "postgres-operator"},
            "annotations": {CRD_REVISION.0: CRD_REVISION.1.to_string()},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "PostgresTeam", "listKind": "PostgresTeamList", "plural": "postgresteams", "singular": "postgresteam",
                "shortNames": ["pgteam"], "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["kind", "apiVersion", "spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": {"type": "object", "properties": {
                            "additionalSuperuserTeams": map("Teams whose people are superusers of a team's clusters"),
                            "additionalTeams": map("Teams whose people have roles in a team's clusters"),
                            "additionalMembers": map("People who have roles in a team's clusters"),
                        }},
                    },
                }},
            }],
        },
    })
}
