use crate::Environment;

/// The image's lines of `pg_hba.conf`: everything local, everybody else by TLS and password. The lines for people by PAM
/// are left out where there is no such PAM service, which is outside of the image.
pub(crate) fn lines(env: &Environment) -> Vec<String> {
    let standby = env.or("PGUSER_STANDBY", "standby");
    let mut lines = vec![
        "local   all             all                                   trust".to_owned(),
        format!("local   replication     {standby}                    trust"),
        "hostssl all             all                127.0.0.1/32       md5".to_owned(),
        "hostssl all             all                ::1/128            md5".to_owned(),
        format!("hostssl replication     {standby} all                md5"),
    ];
    if env.get("ALLOW_NOSSL").is_some() {
        lines.push(format!(
            "host    replication     {standby} all                md5"
        ));
        lines.push("host    all             all                all                md5".into());
    } else {
        lines.push("hostnossl all           all                all                reject".into());
    }
    lines.push("hostssl all             all                all                md5".into());
    lines
}
