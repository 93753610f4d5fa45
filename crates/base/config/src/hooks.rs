use crate::{ConfigError, reader::Reader};

/// Programs of the user's that hear of PostgreSQL's life, or take part in it. Each is a command line for the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    on_start: Option<String>,
    on_stop: Option<String>,
    on_restart: Option<String>,
    on_reload: Option<String>,
    on_role_change: Option<String>,
    /// Run by the new leader before it is promoted; it is not promoted unless this succeeds.
    pub pre_promote: Option<String>,
    /// Run before PostgreSQL is stopped in order, which waits for it, `pg_ctl_timeout` at most.
    pub before_stop: Option<String>,
}

/// What a callback hears of (`postgresql.callbacks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// PostgreSQL was started, or was found running.
    Start,
    /// It was stopped on purpose.
    Stop,
    /// It was restarted.
    Restart,
    /// It was told to read its configuration again.
    Reload,
    /// It is a primary now, or is one no longer.
    RoleChange,
}

impl Callback {
    /// The key of the configuration, and the first argument of the call.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Callback::Start => "on_start",
            Callback::Stop => "on_stop",
            Callback::Restart => "on_restart",
            Callback::Reload => "on_reload",
            Callback::RoleChange => "on_role_change",
        }
    }
}

impl Hooks {
    /// The command that hears of it, if there is one.
    #[must_use]
    pub fn on(&self, callback: Callback) -> Option<&str> {
        let command = match callback {
            Callback::Start => &self.on_start,
            Callback::Stop => &self.on_stop,
            Callback::Restart => &self.on_restart,
            Callback::Reload => &self.on_reload,
            Callback::RoleChange => &self.on_role_change,
        };
        command.as_deref()
    }

    pub(crate) fn read(postgresql: &Reader<'_>) -> Result<Self, ConfigError> {
        let callbacks = postgresql.section("callbacks")?;
        let command = |reader: &Reader<'_>, key: &str| {
            let text = reader.text(key)?;
            Ok::<_, ConfigError>(text.filter(|text| !text.trim().is_empty()))
        };
        let on = |callback: Callback| command(&callbacks, callback.name());
        Ok(Hooks {
            on_start: on(Callback::Start)?,
            on_stop: on(Callback::Stop)?,
            on_restart: on(Callback::Restart)?,
            on_reload: on(Callback::Reload)?,
            on_role_change: on(Callback::RoleChange)?,
            pre_promote: command(postgresql, "pre_promote")?,
            before_stop: command(postgresql, "before_stop")?,
        })
    }
}
