use howdah_manifest::{GROUP, KIND, in_secret_name};

use super::Settings;

impl Settings {
    /// The name of a role's Secret.
    #[must_use]
    pub fn secret_name(&self, cluster: &str, role: &str) -> String {
        self.objects
            .secret_name_template
            .replace("{username}", &in_secret_name(role))
            .replace("{cluster}", cluster)
            .replace("{tprkind}", KIND)
            .replace("{tprgroup}", GROUP)
    }

    /// Whether a cluster's Secret for some role may have this name.
    #[must_use]
    pub fn is_secret_name(&self, cluster: &str, name: &str) -> bool {
        let pattern = self.secret_name(cluster, "{username}");
        pattern.split_once("{username}").is_some_and(|(before, after)| {
            name.len() > before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        })
    }

    /// The name of the budget that keeps a cluster's primary.
    #[must_use]
    pub fn primary_budget(&self, cluster: &str) -> String {
        self.objects.pdb_name_format.replace("{cluster}", cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams_unless_the_configuration_says_otherwise() {
        let mut settings = Settings::default();
        let name = settings.secret_name("acid-a", "foo_user");
        assert_eq!(name, "foo-user.acid-a.credentials.postgresql.acid.zalan.do");
        assert!(settings.is_secret_name("acid-a", &name) && !settings.is_secret_name("acid-b", &name));
        assert_eq!(settings.primary_budget("acid-a"), "postgres-acid-a-pdb");
        settings.objects.secret_name_template = "{cluster}-{username}-login".into();
        assert_eq!(settings.secret_name("acid-a", "x"), "acid-a-x-login");
        assert!(!settings.is_secret_name("acid-a", "acid-a--login"));
    }
}
