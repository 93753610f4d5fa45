use std::collections::BTreeMap;

/// The people of teams, who have roles in their teams' clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamSettings {
    /// The teams API is asked who belongs to a team.
    pub enable_teams_api: bool,
    /// Where it is.
    pub teams_api_url: String,
    /// The Secret with the token for it: `NAMESPACE/NAME`, or a name in the operator's namespace.
    pub oauth_token_secret_name: String,
    /// Parameters of people's roles.
    pub team_api_role_configuration: BTreeMap<String, String>,
    /// A team's people are superusers of its clusters.
    pub enable_team_superuser: bool,
    /// The role that people are members of who are no superusers.
    pub team_admin_role: String,
    /// They are members of it.
    pub enable_admin_role_for_users: bool,
    /// Teams whose people are superusers of all clusters.
    pub postgres_superuser_teams: Vec<String>,
    /// `PostgresTeam` objects add people and teams.
    pub enable_postgres_team_crd: bool,
    /// And superusers.
    pub enable_postgres_team_crd_superusers: bool,
    /// The roles of people who have left are renamed and cannot log in.
    pub enable_team_member_deprecation: bool,
    /// What their names end with then.
    pub role_deletion_suffix: String,
}

impl Default for TeamSettings {
    fn default() -> Self {
        TeamSettings {
            enable_teams_api: false,
            teams_api_url: "https://teams.example.com/api/".to_owned(),
            oauth_token_secret_name: "postgresql-operator".to_owned(),
            team_api_role_configuration: BTreeMap::from([("log_statement".to_owned(), "all".to_owned())]),
            enable_team_superuser: false,
            team_admin_role: "admin".to_owned(),
            enable_admin_role_for_users: true,
            postgres_superuser_teams: Vec::new(),
            enable_postgres_team_crd: false,
            enable_postgres_team_crd_superusers: false,
            enable_team_member_deprecation: false,
            role_deletion_suffix: "_deleted".to_owned(),
        }
    }
}
