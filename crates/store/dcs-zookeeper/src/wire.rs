//! ZooKeeper's protocol: big-endian numbers, texts and buffers behind their length, each message behind its length.

use howdah_dcs::{LeaseId, RawKey};
use thiserror::Error;

/// The longest message that is read: a server's own limit for a node is 1 MiB.
pub(crate) const LONGEST: usize = 8 << 20;

pub(crate) const DELETE: i32 = 2;
pub(crate) const EXISTS: i32 = 3;
pub(crate) const GET_DATA: i32 = 4;
pub(crate) const SET_DATA: i32 = 5;
pub(crate) const GET_CHILDREN: i32 = 8;
pub(crate) const PING: i32 = 11;
const CHECK: i32 = 13;
pub(crate) const MULTI: i32 = 14;
pub(crate) const CREATE_WITH_STAT: i32 = 15;
pub(crate) const AUTH: i32 = 100;
const CREATE: i32 = 1;
const MULTI_READ: i32 = 22;
pub(crate) const ADD_WATCH: i32 = 106;
pub(crate) const CLOSE: i32 = -11;

/// Numbers of messages that answer no request of ours.
pub(crate) const XID_EVENT: i32 = -1;
pub(crate) const XID_PING: i32 = -2;
pub(crate) const XID_AUTH: i32 = -4;

/// What a server refuses with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Code {
    #[error("there is no such node")]
    NoNode,
    #[error("ZooKeeper refuses access (its code -102): look at auth_data and set_acls")]
    NoAuth,
    #[error("the node was changed meanwhile")]
    BadVersion,
    #[error("the node exists already")]
    NodeExists,
    #[error("the session has ended")]
    SessionExpired,
    #[error("the session is used over another connection")]
    SessionMoved,
    #[error("ZooKeeper refuses the credentials of auth_data")]
    AuthFailed,
    #[error("ZooKeeper answered with its error code {0}")]
    Other(i32),
}

impl Code {
    pub(crate) fn of(number: i32) -> Result<(), Self> {
        Err(match number {
            0 => return Ok(()),
            -101 => Code::NoNode,
            -102 => Code::NoAuth,
            -103 => Code::BadVersion,
            -110 => Code::NodeExists,
            -112 => Code::SessionExpired,
            -115 => Code::AuthFailed,
            -118 => Code::SessionMoved,
            other => Code::Other(other),
        })
    }
}

/// The message is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server's answer is not ZooKeeper's protocol")]
pub(crate) struct Malformed;

/// A right on nodes that are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl {
    rights: i32,
    scheme: &'static str,
    id: String,
}

impl Acl {
    pub(crate) fn everybody() -> Self {
        Acl {
            rights: 31,
            scheme: "world",
            id: "anyone".to_owned(),
        }
    }

    pub(crate) fn certificate(principal: &str, rights: i32) -> Self {
        Acl {
            rights,
            scheme: "x509",
            id: principal.to_owned(),
        }
    }
}

/// Writes one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn int(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn flag(mut self, value: bool) -> Self {
        self.0.push(u8::from(value));
        self
    }

    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self = self.int(i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    fn acls(self, acls: &[Acl]) -> Self {
        let count = i32::try_from(acls.len()).unwrap_or(i32::MAX);
        acls.iter().fold(self.int(count), |writer, acl| {
            writer.int(acl.rights).text(acl.scheme).text(&acl.id)
        })
    }

    /// The message behind its length.
    pub(crate) fn framed(self) -> Vec<u8> {
        let length = i32::try_from(self.0.len()).unwrap_or(i32::MAX);
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&self.0);
        framed
    }
}

/// Reads one message.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Reader(message)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn int(&mut self) -> Result<i32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(i32::from_be_bytes(bytes))
    }

    pub(crate) fn long(&mut self) -> Result<i64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
        Ok(i64::from_be_bytes(bytes))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.take(1)? != [0])
    }

    /// A buffer; one that is absent is empty.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match usize::try_from(self.int()?) {
            Ok(length) => self.take(length),
            Err(_) => Ok(&[]),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>, Malformed> {
        let count = self.int()?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(crate) fn stat(&mut self) -> Result<Stat, Malformed> {
        let (created, modified) = (self.long()?, self.long()?);
        let _times = (self.long()?, self.long()?);
        let version = self.int()?;
        let _versions = (self.int()?, self.int()?);
        let owner = self.long()?;
        let _length_and_children = (self.int()?, self.int()?, self.long()?);
        Ok(Stat {
            created: created.cast_unsigned(),
            modified: modified.cast_unsigned(),
            version,
            owner: (owner != 0).then_some(LeaseId(owner.cast_unsigned())),
        })
    }
}

/// What a server tells of a node beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The ensemble's revision (zxid) at its creation, and at its last change.
    pub(crate) created: u64,
    pub(crate) modified: u64,
    /// How often its content was changed since its creation.
    pub(crate) version: i32,
    /// The session that it is bound to.
    pub(crate) owner: Option<LeaseId>,
}

/// A node with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: String,
    pub(crate) stat: Stat,
}

impl Node {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        Ok(Node {
            value: reader.text()?,
            stat: reader.stat()?,
        })
    }

    pub(crate) fn into_key(self, path: String) -> RawKey {
        RawKey {
            path,
            value: self.value,
            created: self.stat.created,
            modified: self.stat.modified,
            lease: self.stat.owner,
        }
    }
}

/// A request without its number.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) kind: i32,
    pub(crate) body: Writer,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Request {
            kind: GET_DATA,
            body: Writer::default().text(path).flag(false),
        }
    }

    pub(crate) fn exists(path: &str) -> Self {
        Request {
            kind: EXISTS,
            body: Writer::default().text(path).flag(false),
        }
    }

    pub(crate) fn children(path: &str) -> Self {
        Request {
            kind: GET_CHILDREN,
            body: Writer::default().text(path).flag(false),
        }
    }

    /// Makes a node; bound to the session if `bound`.
    pub(crate) fn create(path: &str, value: &str, bound: bool, acls: &[Acl]) -> Self {
        Request {
            kind: CREATE_WITH_STAT,
            body: create_body(path, value, bound, acls),
        }
    }

    pub(crate) fn set(path: &str, value: &str, version: i32) -> Self {
        Request {
            kind: SET_DATA,
            body: Writer::default().text(path).text(value).int(version),
        }
    }

    pub(crate) fn delete(path: &str, version: i32) -> Self {
        Request {
            kind: DELETE,
            body: Writer::default().text(path).int(version),
        }
    }

    /// A write that changes nothing: the ensemble decides it, and only for a session that lives.
    pub(crate) fn touch(path: &str) -> Self {
        let body = Writer::default()
            .int(CHECK)
            .flag(false)
            .int(-1)
            .text(path)
            .int(-1);
        Request {
            kind: MULTI,
            body: end_of_multi(body),
        }
    }

    /// The node in another one's place: the same path, bound to this session or to none.
    pub(crate) fn replace(path: &str, version: i32, value: &str, bound: bool, acls: &[Acl]) -> Self {
        let Writer(delete) = Request::delete(path, version).body;
        let Writer(create) = create_body(path, value, bound, acls);
        let mut body = Writer::default().int(DELETE).flag(false).int(-1);
        body.0.extend_from_slice(&delete);
        body = body.int(CREATE).flag(false).int(-1);
        body.0.extend_from_slice(&create);
        Request {
            kind: MULTI,
            body: end_of_multi(body),
        }
    }

    /// Reads several nodes at one moment, which servers can since 3.6.
    pub(crate) fn get_all<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let body = paths.into_iter().fold(Writer::default(), |body, path| {
            body.int(GET_DATA).flag(false).int(-1).text(path).flag(false)
        });
        Request {
            kind: MULTI_READ,
            body: end_of_multi(body),
        }
    }

    /// Tells of every change below `path` from now on.
    pub(crate) fn watch(path: &str) -> Self {
        const PERSISTENT_RECURSIVE: i32 = 1;
        Request {
            kind: ADD_WATCH,
            body: Writer::default().text(path).int(PERSISTENT_RECURSIVE),
        }
    }

    pub(crate) fn close() -> Self {
        Request {
            kind: CLOSE,
            body: Writer::default(),
        }
    }

    pub(crate) fn framed(self, xid: i32) -> Vec<u8> {
        let mut message = Writer::default().int(xid).int(self.kind);
        message.0.extend_from_slice(&self.body.0);
        message.framed()
    }
}

fn create_body(path: &str, value: &str, bound: bool, acls: &[Acl]) -> Writer {
    Writer::default()
        .text(path)
        .text(value)
        .acls(acls)
        .int(i32::from(bound))
}

fn end_of_multi(body: Writer) -> Writer {
    body.int(-1).flag(true).int(-1)
}

/// The first error in the answer to several writes that were one. None has happened then.
pub(crate) fn read_multi(body: &[u8]) -> Result<Result<(), Code>, Malformed> {
    const RUNTIME_INCONSISTENCY: i32 = -2;
    let mut reader = Reader::new(body);
    while !reader.is_empty() {
        let (kind, done) = (reader.int()?, reader.flag()?);
        let _error = reader.int()?;
        if done {
            break;
        }
        match kind {
            -1 => match reader.int()? {
                // The writes beside the one that was refused.
                0 | RUNTIME_INCONSISTENCY => {}
                code => return Ok(Code::of(code)),
            },
            CREATE => {
                reader.text()?;
            }
            _ => {}
        }
    }
    Ok(Ok(()))
}

/// The answer to [`Request::touch`]. A refusal of the check is decided like any write; another one says that the session has ended.
pub(crate) fn read_touch(body: &[u8]) -> Result<Result<(), Code>, Malformed> {
    Ok(match read_multi(body)? {
        Ok(()) | Err(Code::NoNode | Code::BadVersion | Code::NoAuth) => Ok(()),
        refused @ Err(_) => refused,
    })
}

/// The nodes of [`Request::get_all`], in its order; `None` for those that do not exist.
pub(crate) fn read_all(body: &[u8]) -> Result<Result<Vec<Option<Node>>, Code>, Malformed> {
    let mut reader = Reader::new(body);
    let mut nodes = Vec::new();
    loop {
        let (kind, done) = (reader.int()?, reader.flag()?);
        let _error = reader.int()?;
        if done {
            return Ok(Ok(nodes));
        }
        nodes.push(match kind {
            -1 => match Code::of(reader.int()?) {
                Ok(()) => return Err(Malformed),
                Err(Code::NoNode) => None,
                Err(code) => return Ok(Err(code)),
            },
            GET_DATA => Some(Node {
                value: reader.text()?,
                stat: reader.stat()?,
            }),
            _ => return Err(Malformed),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_as_the_protocol_says() {
        let bytes = Request::get("/a").framed(7);
        assert_eq!(
            bytes,
            [0, 0, 0, 15, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 2, b'/', b'a', 0]
        );
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_malformed_and_no_panic() {
        let mut body = Writer::default().text("{}").long(5).long(6).long(0).long(0);
        body = body.int(3).int(0).int(0).long(-2).int(2).int(0).long(5);
        let Writer(body) = body;
        let node = Node::read(&body).unwrap();
        assert_eq!((node.value.as_str(), node.stat.version), ("{}", 3));
        assert_eq!(node.stat.owner, Some(LeaseId(u64::MAX - 1)));
        for length in 0..body.len() {
            assert_eq!(Node::read(&body[..length]), Err(Malformed));
        }
    }

    #[test]
    fn of_several_writes_the_one_that_was_refused_is_told() {
        let refused = Writer::default().int(-1).flag(false).int(0).int(0);
        let refused = refused.int(-1).flag(false).int(-110).int(-110);
        let Writer(refused) = end_of_multi(refused);
        assert_eq!(read_multi(&refused), Ok(Err(Code::NodeExists)));
        let done = Writer::default().int(DELETE).flag(false).int(0);
        let Writer(done) = end_of_multi(done.int(CREATE).flag(false).int(0).text("/a"));
        assert_eq!(read_multi(&done), Ok(Ok(())));
        assert_eq!(read_multi(&done[..3]), Err(Malformed));
    }
}
