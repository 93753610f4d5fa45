//! Giving leadership away, as the agent's `hand_over` does it.

use howdah_config::SyncMode;
use howdah_dcs::{Cond, Document, FailoverRequest, KeyOp};
use howdah_ha::{AfterStop, Command, KeeperInput, LeaseState, Received, Unconfirmed, after_stop};
use howdah_types::{MemberName, have_forked};

use crate::{Settings, World, member::Agent, settings::TICKS, world::MEMBERS};

/// A handover waits this many steps for a replica that has everything: five seconds.
#[allow(clippy::cast_possible_truncation, reason = "a small constant")]
const CATCH_UP: u8 = (5 * TICKS) as u8;

/// The step of a handover that gives the lease back.
const RELEASE: u8 = CATCH_UP + 1;

impl World {
    /// Stops, waits a while until a replica has everything, names that one, and releases. Without such a one, the rule of the
    /// agent decides. True when it has ended.
    pub(crate) fn hand_over(
        &mut self,
        i: usize,
        candidate: Option<&MemberName>,
        unconfirmed: Unconfirmed,
        phase: &mut u8,
        settings: &Settings,
    ) -> bool {
        match *phase {
            0 => {
                self.stop_cleanly(i, settings);
                false
            }
            1..CATCH_UP => {
                if let Some(name) = self.member_that_has_all(i, candidate, settings) {
                    self.name_successor(i, name);
                    // The rule for what no member has confirmed is passed by.
                    *phase = CATCH_UP;
                }
                false
            }
            CATCH_UP => match after_stop(&self.received(i), unconfirmed) {
                AfterStop::Keep => {
                    self.say(|| format!("m{i}: no member has everything: no handover"));
                    self.write(
                        i,
                        &KeyOp::Put {
                            document: Document::failover(None),
                            cond: Cond::Always,
                        },
                    );
                    true
                }
                AfterStop::RunOut => {
                    self.say(|| format!("m{i}: no member has everything: the lease runs out"));
                    true
                }
                AfterStop::Release => false,
            },
            RELEASE => {
                self.keeper(i, KeeperInput::Command(Command::Release));
                false
            }
            _ => self.nodes[i].keeper.state(self.now()) == LeaseState::None,
        }
    }

    /// Who else is there, once no member was found that has everything.
    fn received(&self, i: usize) -> Received {
        let answers = |other: usize| {
            other != i && self.connected(i) && self.connected(other) && self.nodes[other].agent != Agent::Dead
        };
        if (0..MEMBERS).any(answers) {
            Received::Lacking
        } else {
            Received::Alone
        }
    }

    fn member_that_has_all(
        &mut self,
        i: usize,
        candidate: Option<&MemberName>,
        settings: &Settings,
    ) -> Option<MemberName> {
        let view = self.view_of(i);
        let sync = view
            .sync
            .value
            .clone()
            .filter(|_| settings.dynamic.synchronous_mode != SyncMode::Off);
        let fits = |other: &usize| {
            let node = &self.nodes[*other];
            *other != i
                && candidate.is_none_or(|candidate| *candidate == node.name)
                && sync.as_ref().is_none_or(|sync| sync.includes(node.name.as_str()))
                && self.connected(i)
                && self.connected(*other)
                && self.runs(*other)
                && node.pg.serves(self.tick)
                && node.lsn() >= self.nodes[i].lsn()
                && node.pg.timeline >= self.nodes[i].pg.timeline
                && !have_forked(&node.pg.origins, &self.nodes[i].pg.origins)
        };
        let found = (0..MEMBERS).find(fits)?;
        Some(self.nodes[found].name.clone())
    }

    fn name_successor(&mut self, i: usize, name: MemberName) {
        self.say(|| format!("m{i}: {name} has everything, and is named"));
        let request = FailoverRequest {
            leader: Some(self.nodes[i].name.clone()),
            candidate: Some(name),
            scheduled_at: None,
            force: false,
            confirmed: true,
        };
        self.ask_for(i, &request);
    }

    /// Writes a request for a handover.
    pub(crate) fn ask_for(&mut self, i: usize, request: &FailoverRequest) {
        self.write(
            i,
            &KeyOp::Put {
                document: Document::failover(Some(request)),
                cond: Cond::Always,
            },
        );
    }
}
