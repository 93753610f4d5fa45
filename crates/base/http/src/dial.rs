use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::error::Cause;

/// A connection, encrypted or not.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Connects to a server, for protocols that are not HTTP as well. The caller sets a limit.
///
/// # Errors
/// It cannot be reached, or TLS is not agreed on.
pub async fn dial(
    host: &str,
    port: u16,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Box<dyn ByteStream>, Cause> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    notice_dead_peer(&stream);
    let Some(config) = tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await?;
    Ok(Box::new(stream))
}

/// A connection to a host that is gone without a word breaks after some seconds and not after hours.
fn notice_dead_peer(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, std::time::Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepintvl(stream, std::time::Duration::from_secs(2));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
    let _ = sockopt::set_tcp_user_timeout(stream, 10_000);
}
