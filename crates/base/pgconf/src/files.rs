use std::fmt::Write;

/// A generated `postgresql.conf`: a banner, an include of the user's own file, then sorted settings.
#[derive(Clone, Debug, Default)]
pub struct ConfFile {
    include: Option<String>,
    settings: Vec<(String, String)>,
}

impl ConfFile {
    /// A file that includes `base`, the configuration that was there before the agent.
    #[must_use]
    pub fn including(base: impl Into<String>) -> Self {
        ConfFile {
            include: Some(base.into()),
            settings: Vec::new(),
        }
    }

    /// Adds a setting; the last one of a name counts, as in PostgreSQL.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.settings.push((name.into(), value.into()));
    }

    /// The text of the file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Written by the Howdah agent: changes made here are lost.\n\
             # Change parameters with `howdah ctl edit-config`, or in the agent's own configuration.\n",
        );
        if let Some(base) = &self.include {
            let _ = writeln!(text, "include {}", quote_value(base));
        }
        let mut settings = self.settings.clone();
        // PostgreSQL refuses to unset a recovery target while another one is set: a target comes after those that are unset.
        let is_target =
            |(name, value): &(String, String)| name.starts_with("recovery_target") && !value.is_empty();
        settings.sort_by(|a, b| (is_target(a), &a.0).cmp(&(is_target(b), &b.0)));
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = {}", quote_value(&value));
        }
        text
    }
}

/// A value in single quotes, on one line: quotes and backslashes are doubled, control characters are written as PostgreSQL's
/// escapes. No text in PostgreSQL contains a NUL, which is left out.
#[must_use]
pub fn quote_value(value: &str) -> String {
    let mut quoted = String::from("'");
    for c in value.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("''"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => {}
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\{:03o}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// `pg_hba.conf` or `pg_ident.conf` from a list of lines.
#[must_use]
pub fn lines_file(lines: &[String]) -> String {
    let mut text = String::from("# Written by the Howdah agent: changes made here are lost.\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_and_quoted() {
        let mut conf = ConfFile::including("postgresql.base.conf");
        conf.set("work_mem", "4MB");
        conf.set("archive_command", r"cp '%p' \x");
        let text = conf.render();
        let settings: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            settings,
            [
                "include 'postgresql.base.conf'",
                r"archive_command = 'cp ''%p'' \\x'",
                "work_mem = '4MB'"
            ]
        );
    }
}
