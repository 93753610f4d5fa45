/// When passwords change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationSettings {
    /// The passwords of all roles of manifests change, except those of owners of databases.
    pub enable_password_rotation: bool,
    /// Days between two changes.
    pub password_rotation_interval: u32,
    /// Days after which a role that was replaced by a newer one is dropped; twice the interval at least.
    pub password_rotation_user_retention: u32,
}

impl Default for RotationSettings {
    fn default() -> Self {
        RotationSettings {
            enable_password_rotation: false,
            password_rotation_interval: 90,
            password_rotation_user_retention: 180,
        }
    }
}
