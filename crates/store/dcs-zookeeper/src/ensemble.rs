use std::{path::Path, sync::Arc};

use howdah_http::{ClientConfig, TlsError, client_tls};
use thiserror::Error;

use crate::wire::Acl;

/// Why the ensemble cannot be used as it is configured.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Who may do what with the nodes that are made (`set_acls`): the subject of a certificate and its rights, as ZooKeeper's bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The certificate's subject.
    pub principal: String,
    /// read 1, write 2, create 4, delete 8, admin 16.
    pub rights: i32,
}

/// What TLS needs.
#[derive(Clone, Copy, Debug)]
pub struct Certificates<'a> {
    /// The CA of the servers' certificates; the system's unless set.
    pub ca: Option<&'a Path>,
    /// Our certificate and its key.
    pub client: Option<(&'a Path, &'a Path)>,
    /// The servers' certificates are checked.
    pub verify: bool,
}

/// The servers of one ensemble and how to talk to them.
#[derive(Clone)]
pub struct Ensemble {
    pub(crate) servers: Arc<[(String, u16)]>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Scheme and credential, presented on every connection.
    pub(crate) auth: Arc<[(String, String)]>,
    pub(crate) acls: Arc<[Acl]>,
}

impl Ensemble {
    /// Servers as host and port, credentials by scheme, the rights of what is made (none: everybody's), and TLS if it is spoken.
    ///
    /// # Errors
    /// A certificate is unusable.
    pub fn new(
        servers: &[(String, u16)],
        auth: &[(String, String)],
        access: &[Access],
        tls: Option<Certificates<'_>>,
    ) -> Result<Self, SetupError> {
        let acls: Vec<Acl> = if access.is_empty() {
            vec![Acl::everybody()]
        } else {
            let of = |access: &Access| Acl::certificate(&access.principal, access.rights);
            access.iter().map(of).collect()
        };
        let tls = match tls {
            None => None,
            Some(tls) => Some(client_tls(tls.ca, tls.client, !tls.verify)?),
        };
        Ok(Ensemble {
            servers: servers.into(),
            tls,
            auth: auth.into(),
            acls: acls.into(),
        })
    }
}
