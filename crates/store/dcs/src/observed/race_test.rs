//! Leaders and observers in a world of late requests, lost answers, freezes and restored stores: whoever takes the record
//! takes it after the last holder's deadline.

use std::time::Duration;

use howdah_types::{BootTime, MemberName};
use proptest::prelude::*;

use super::{Observed, Record};
use crate::LeaseId;

const MEMBERS: usize = 3;

/// What happens next, and how long it takes.
#[derive(Clone, Debug)]
enum Event {
    /// Time passes.
    Pass(u64),
    /// A member sends a renewal or a try to take the record; it arrives after a while, and its answer may be lost.
    Write { member: usize, late: u64, lost: bool },
    /// A member reads; the request arrives after a while, when somebody has just written, and it looks at the answer
    /// after another while.
    Read {
        member: usize,
        slow: u64,
        writer: usize,
        late: u64,
    },
    /// A member gives the record back, if it believes to hold it.
    Release(usize),
    /// A member changes the length of its lease.
    Ttl { member: usize, seconds: u64 },
    /// Somebody deletes the ConfigMap.
    Delete,
    /// Somebody puts a label on it.
    Label,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let member = 0..MEMBERS;
    let one = prop_oneof![
        4 => (1..12u64).prop_map(Event::Pass),
        6 => (member.clone(), 0..12u64, any::<bool>()).prop_map(|(member, late, lost)| Event::Write { member, late, lost }),
        4 => (member.clone(), 0..12u64, member.clone(), 0..12u64)
            .prop_map(|(member, slow, writer, late)| Event::Read { member, slow, writer, late }),
        1 => member.clone().prop_map(Event::Release),
        1 => (member, prop_oneof![Just(8u64), Just(20), Just(30)]).prop_map(|(member, seconds)| Event::Ttl { member, seconds }),
        1 => Just(Event::Delete),
        1 => Just(Event::Label),
    ];
    prop::collection::vec(one, 1..120)
}

/// One member: what it has seen, and until when it may write by its own count.
struct Member {
    observed: Observed,
    ttl: u64,
    deadline: u64,
}

/// The ConfigMap.
#[derive(Clone)]
struct Map {
    version: u64,
    holder: Option<usize>,
    ttl: u64,
    renewal: u64,
}

struct World {
    now: u64,
    version: u64,
    map: Option<Map>,
    members: Vec<Member>,
}

fn at(seconds: u64) -> BootTime {
    BootTime(0) + Duration::from_secs(seconds + 1000)
}

fn record(map: &Map) -> Record {
    Record {
        version: map.version,
        holder: map
            .holder
            .and_then(|holder| MemberName::new(format!("m{holder}")).ok()),
        lease: map.holder.map(|holder| LeaseId(holder as u64 + 1)),
        term: 0,
        ttl: Duration::from_secs(map.ttl),
        transitions: 0,
        renewal: map.renewal.to_string(),
    }
}

impl World {
    fn see(&mut self, member: usize, sent: u64, seen: Option<Map>) -> bool {
        let now = at(self.now);
        let observed = &mut self.members[member].observed;
        match seen {
            Some(map) => observed.see(record(&map), at(sent), now).is_held(),
            None => {
                observed.absent(now);
                observed.is_held(now)
            }
        }
    }

    /// The store's own part: a swap on a version. Says what is there afterwards, if it has happened.
    fn swap(&mut self, version: Option<u64>, holder: Option<usize>, ttl: u64) -> Option<Map> {
        if self.map.as_ref().map(|map| map.version) != version {
            return None;
        }
        if let (Some(next), Some(map)) = (holder, &self.map)
            && map.holder != holder
        {
            for (other, member) in self.members.iter().enumerate() {
                assert!(
                    other == next || member.deadline <= self.now,
                    "m{next} takes the record at {} while m{other} may write until {}",
                    self.now,
                    member.deadline
                );
            }
        }
        self.version += 1;
        let map = Map {
            version: self.version,
            holder,
            ttl,
            renewal: self.version,
        };
        self.map = Some(map.clone());
        Some(map)
    }

    fn step(&mut self, event: &Event) {
        match event {
            Event::Pass(seconds) => self.now += seconds,
            Event::Read {
                member,
                slow,
                writer,
                late,
            } => {
                let sent = self.now;
                self.now += slow;
                if writer != member {
                    self.write(*writer, 0, false);
                }
                let seen = self.map.clone();
                self.now += late;
                self.see(*member, sent, seen);
            }
            Event::Write { member, late, lost } => self.write(*member, *late, *lost),
            Event::Release(member) => {
                // A leader reads, stops PostgreSQL, and gives back what it has read.
                let ours = self.map.clone().filter(|map| map.holder == Some(*member));
                if let Some(map) = ours {
                    self.members[*member].deadline = 0;
                    let seen = self.swap(Some(map.version), None, map.ttl);
                    self.see(*member, self.now, seen);
                }
            }
            Event::Ttl { member, seconds } => {
                // As the keeper does: another length comes with another lease, when it does not lead.
                if self.members[*member].deadline <= self.now {
                    self.members[*member].ttl = *seconds;
                }
            }
            Event::Delete => self.map = None,
            Event::Label => {
                if let Some(map) = &mut self.map {
                    self.version += 1;
                    map.version = self.version;
                }
            }
        }
    }

    fn write(&mut self, member: usize, late: u64, lost: bool) {
        let sent = self.now;
        let read = self.map.clone();
        let held = self.see(member, sent, read.clone());
        let ours = read.as_ref().is_some_and(|map| map.holder == Some(member));
        if held && !ours {
            return;
        }
        let Some(map) = read else {
            // Nobody holds it as far as this member knows: an empty one is made, and the next write may take it.
            let made = self.swap(None, None, self.members[member].ttl);
            self.see(member, sent, made);
            return;
        };
        // A holder that has outlived its own deadline starts again like everybody else.
        let ttl = self.members[member].ttl;
        self.now += late;
        let written = self.swap(Some(map.version), Some(member), ttl);
        let Some(written) = written.filter(|_| !lost) else {
            return;
        };
        self.now += late / 2;
        self.see(member, sent, Some(written));
        self.members[member].deadline = self.members[member].deadline.max(sent + ttl);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn nobody_takes_the_record_before_the_holders_deadline(events in events()) {
        let mut world = World {
            now: 0,
            version: 10,
            map: Some(Map { version: 10, holder: None, ttl: 30, renewal: 0 }),
            members: (0..MEMBERS)
                .map(|_| Member { observed: Observed::default(), ttl: 30, deadline: 0 })
                .collect(),
        };
        // Everybody has seen the beginning; who was not there cannot know of a record that is deleted.
        for member in 0..MEMBERS {
            let seen = world.map.clone();
            world.see(member, 0, seen);
        }
        for event in &events {
            // A member that has not seen the last renewal cannot know of a holder whose record was deleted since.
            if matches!(event, Event::Delete) {
                for member in 0..MEMBERS {
                    let (sent, seen) = (world.now, world.map.clone());
                    world.see(member, sent, seen);
                }
            }
            world.step(event);
        }
    }
}
