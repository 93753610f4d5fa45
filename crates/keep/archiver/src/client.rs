//! What a command of PostgreSQL's asks. It is run for every segment, so it starts no runtime and opens no connection but one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use howdah_types::BootTime;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::{
    peer,
    protocol::{Answer, BEAT_MS, LONGEST, Request},
};

/// An archiver that is silent for longer than this hangs.
const SILENCE: Duration = Duration::from_millis(BEAT_MS * 6);

/// How long its first line may take: it says at once that it has heard.
const FIRST: Duration = Duration::from_secs(1);

/// Asks the archiver.
///
/// # Errors
/// Why there is no answer: it is not there, has ended, hangs, does not do this, or is late. Then the command does the work
/// itself, which is safe: nothing that the archiver may still do takes the place of what the command does.
pub fn ask(socket: &Path, request: &Request, deadline: BootTime) -> Result<Answer, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = connect(socket).map_err(said)?;
    if !peer::is_trusted(&stream) {
        return Err("it is another user's".to_owned());
    }
    stream.set_read_timeout(Some(FIRST)).map_err(said)?;
    stream.set_write_timeout(Some(FIRST)).map_err(said)?;
    let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(said)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match (&mut reader).take(LONGEST).read_line(&mut line) {
            Ok(0) => return Err("it has ended".to_owned()),
            Ok(_) if line.trim().is_empty() => {
                reader.get_ref().set_read_timeout(Some(SILENCE)).map_err(said)?;
                if howdah_clock::now() >= deadline {
                    return Err("it is late".to_owned());
                }
            }
            Ok(_) => {
                let answer: Answer = serde_json::from_str(&line).map_err(|error| error.to_string())?;
                return match answer.code {
                    Some(_) => Ok(answer),
                    None => Err(answer.text),
                };
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                return Err("it hangs".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Connects, or fails at once: an archiver that hangs accepts nothing, and its queue is full at some time.
fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &address)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Puts a file that was fetched in its place. False if it is not there any longer, or lies on another file system.
#[must_use]
pub fn place_file(file: &Path, target: &Path) -> bool {
    std::fs::rename(file, target).is_ok()
}
