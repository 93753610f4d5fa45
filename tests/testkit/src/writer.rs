//! Clients that write, with sessions that were opened before the fault, and a log of every acknowledgement.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt, future::poll_fn};
use howdah_clock::now;
use howdah_http::{sleep_until, timeout_at};
use howdah_types::BootTime;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

/// How a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One INSERT after the other.
    Insert,
    /// A procedure that loops over INSERT and COMMIT within one call: it goes on when the postmaster is gone.
    Procedure,
    /// COPY of a hundred rows, again and again.
    Copy,
}

/// One acknowledgement that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// By index in the lab.
    pub member: usize,
    /// The timeline that the member was on when the session was opened: its term.
    pub term: u32,
    /// When the client had it.
    pub at: BootTime,
    /// The row: `kind` and a number.
    pub kind: Kind,
    /// Number of the row; for COPY of the last of a hundred.
    pub n: i64,
}

/// Writers of all kinds that run until they are stopped.
pub struct Writers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    acks: mpsc::Receiver<Ack>,
    addresses: Arc<[Address]>,
}

/// Acknowledgements that may wait to be collected: minutes of them.
const BACKLOG: usize = 4_000_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS acks (kind text, n bigint, PRIMARY KEY (kind, n));
CREATE OR REPLACE PROCEDURE writes(start bigint) LANGUAGE plpgsql AS $$
BEGIN
  LOOP
    INSERT INTO acks VALUES ('Procedure', start);
    COMMIT;
    RAISE NOTICE '%', start;
    start := start + 1;
    PERFORM pg_sleep(0.001);
  END LOOP;
END $$;";

/// How a member's PostgreSQL is reached as superuser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its host.
    pub host: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// The password of `postgres`.
    pub password: String,
}

/// Connects to a member's PostgreSQL as superuser.
///
/// # Errors
/// It does not answer.
pub async fn connect(address: &Address) -> Result<(Client, mpsc::Receiver<String>), tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host(address.host.to_string())
        .port(address.port)
        .user("postgres")
        .password(&address.password)
        .dbname("postgres");
    config.connect_timeout(Duration::from_secs(1));
    let (client, mut connection) = config.connect(NoTls).await?;
    let (notices, received) = mpsc::channel(100_000);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message {
                let _ = notices.try_send(notice.message().to_owned());
            }
        }
    });
    Ok((client, received))
}

impl Writers {
    /// Starts writers on an empty table, and waits until each has written. Returns what was acknowledged so far.
    ///
    /// # Errors
    /// The primary does not answer, or a writer cannot write within 20 s.
    pub async fn on_empty_table(addresses: &[Address], primary: usize) -> anyhow::Result<(Self, Vec<Ack>)> {
        let (client, _) = connect(&addresses[primary]).await?;
        client.batch_execute("DROP TABLE IF EXISTS acks").await?;
        let mut writers = Self::start(addresses, primary).await?;
        let mut acks = Vec::new();
        writers
            .wait_all(&mut acks, now(), Duration::from_secs(20))
            .await?;
        Ok((writers, acks))
    }

    /// Makes the table on the primary and starts one writer of each kind against all `addresses`.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn start(addresses: &[Address], primary: usize) -> anyhow::Result<Self> {
        let (client, _) = connect(&addresses[primary]).await?;
        client.batch_execute(SCHEMA).await?;
        let (stop, stopped) = watch::channel(false);
        let (log, acks) = mpsc::channel(BACKLOG);
        let mut tasks = JoinSet::new();
        let addresses: Arc<[Address]> = addresses.into();
        for kind in [Kind::Insert, Kind::Procedure, Kind::Copy] {
            let writer = Writer {
                kind,
                addresses: Arc::clone(&addresses),
                pinned: false,
                log: log.clone(),
                next: 1,
            };
            spawn(&mut tasks, writer, primary, stopped.clone());
        }
        // Sessions stay where they are while they can. One more writer on every member finds a second primary.
        for member in 0..addresses.len() {
            let next = (i64::try_from(member)? + 1) * 1_000_000_000_000;
            let writer = Writer {
                kind: Kind::Insert,
                addresses: Arc::clone(&addresses),
                pinned: true,
                log: log.clone(),
                next,
            };
            spawn(&mut tasks, writer, member, stopped.clone());
        }
        Ok(Writers {
            stop,
            tasks,
            acks,
            addresses,
        })
    }

    /// Waits until all kinds have been acknowledged after `since`, on any member.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn wait_all(
        &mut self,
        seen: &mut Vec<Ack>,
        since: BootTime,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let deadline = now() + patience;
        let kinds = [Kind::Insert, Kind::Procedure, Kind::Copy];
        loop {
            let all = kinds
                .iter()
                .all(|kind| seen.iter().rev().any(|ack| ack.kind == *kind && ack.at > since));
            if all {
                return Ok(());
            }
            match timeout_at(deadline, self.acks.recv()).await {
                Ok(Some(ack)) => seen.push(ack),
                _ => anyhow::bail!("writes were not acknowledged within {patience:?}"),
            }
        }
    }

    /// Takes what has come so far.
    pub fn drain(&mut self, seen: &mut Vec<Ack>) {
        while let Ok(ack) = self.acks.try_recv() {
            seen.push(ack);
        }
    }

    /// Stops all writers and returns what is left in the log.
    pub async fn stop(mut self) -> Vec<Ack> {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        // The procedure goes on in its backend, which does not look whether its client is there.
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL writes%'";
        for address in self.addresses.iter() {
            if let Ok((client, _)) = connect(address).await {
                let _ = client.batch_execute(sql).await;
            }
        }
        let mut left = Vec::new();
        while let Ok(ack) = self.acks.try_recv() {
            left.push(ack);
        }
        left
    }
}

fn spawn(tasks: &mut JoinSet<()>, writer: Writer, member: usize, mut stopped: watch::Receiver<bool>) {
    tasks.spawn(async move {
        tokio::select! {
            () = writer.run(member) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    });
}

struct Writer {
    kind: Kind,
    addresses: Arc<[Address]>,
    /// Stays with its member.
    pinned: bool,
    log: mpsc::Sender<Ack>,
    next: i64,
}

impl Writer {
    /// Writes in the session it has until that breaks; then looks for a member that takes writes. Sessions are kept
    /// on the old member as long as it keeps them: that is what a fence must end.
    async fn run(mut self, first: usize) {
        let mut member = first;
        loop {
            if let Ok((client, notices)) = connect(&self.addresses[member]).await
                && let Some(term) = term_of_primary(&client).await
            {
                match self.kind {
                    Kind::Insert => self.inserts(&client, member, term).await,
                    Kind::Procedure => self.procedure(&client, notices, member, term).await,
                    Kind::Copy => self.copies(&client, member, term).await,
                }
            }
            if !self.pinned {
                member = (member + 1) % self.addresses.len();
            }
            sleep_until(now() + Duration::from_millis(if self.pinned { 50 } else { 5 })).await;
        }
    }

    async fn inserts(&mut self, client: &Client, member: usize, term: u32) {
        let Ok(insert) = client.prepare("INSERT INTO acks VALUES ('Insert', $1)").await else {
            return;
        };
        loop {
            let n = self.take();
            if client.execute(&insert, &[&n]).await.is_err() {
                return;
            }
            self.acknowledged(member, term, n).await;
            sleep_until(now() + Duration::from_millis(1)).await;
        }
    }

    async fn procedure(
        &mut self,
        client: &Client,
        mut notices: mpsc::Receiver<String>,
        member: usize,
        term: u32,
    ) {
        let call = format!("CALL writes({})", self.next);
        let running = client.batch_execute(&call);
        tokio::pin!(running);
        loop {
            tokio::select! {
                biased;
                notice = notices.recv() => match notice.and_then(|text| text.parse::<i64>().ok()) {
                    Some(n) => {
                        self.next = n + 1;
                        self.acknowledged(member, term, n).await;
                    }
                    None => break,
                },
                _ = &mut running => break,
            }
        }
        // A row that was written and not acknowledged must not be written again.
        self.next += 10;
    }

    async fn copies(&mut self, client: &Client, member: usize, term: u32) {
        loop {
            let first = self.next;
            self.next += 100;
            // In a transaction of its own: in the extended protocol the server says that a COPY is complete *before* it
            // commits, so without this an acknowledgement would be no promise.
            if client.batch_execute("BEGIN").await.is_err() {
                return;
            }
            let Ok(sink) = client.copy_in::<_, bytes::Bytes>("COPY acks FROM STDIN").await else {
                return;
            };
            tokio::pin!(sink);
            let rows: String = (first..first + 100).map(|n| format!("Copy\t{n}\n")).collect();
            if sink.send(bytes::Bytes::from(rows)).await.is_err() || sink.finish().await.is_err() {
                return;
            }
            if client.batch_execute("COMMIT").await.is_err() {
                return;
            }
            self.acknowledged(member, term, first + 99).await;
            sleep_until(now() + Duration::from_millis(5)).await;
        }
    }

    fn take(&mut self) -> i64 {
        let n = self.next;
        self.next += 1;
        n
    }

    async fn acknowledged(&self, member: usize, term: u32, n: i64) {
        let _ = self
            .log
            .send(Ack {
                member,
                term,
                at: now(),
                kind: self.kind,
                n,
            })
            .await;
    }
}

async fn term_of_primary(client: &Client) -> Option<u32> {
    let sql = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) WHERE NOT pg_is_in_recovery()";
    let row = client.query_opt(sql, &[]).await.ok()??;
    u32::from_str_radix(row.get::<_, &str>(0), 16).ok()
}

/// What rows a member has, in one line: two members with the same rows have the same one.
///
/// # Errors
/// It does not answer.
pub async fn digest(address: &Address) -> anyhow::Result<String> {
    let (client, _) = connect(address).await?;
    let sql = "SELECT count(*) || ' rows, ' || coalesce(sum(hashtextextended(kind, n)), 0) FROM acks";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// All rows that a member has, as kind and number.
///
/// # Errors
/// It does not answer.
pub async fn rows(address: &Address) -> anyhow::Result<std::collections::HashSet<(String, i64)>> {
    let (client, _) = connect(address).await?;
    let stream = client
        .query_raw("SELECT kind, n FROM acks", std::iter::empty::<&str>())
        .await?;
    tokio::pin!(stream);
    let mut found = std::collections::HashSet::new();
    while let Some(row) = stream.next().await {
        let row = row?;
        found.insert((row.get(0), row.get(1)));
    }
    Ok(found)
}
