//! What travels between a keeper and the store, and between keepers: carried out, lost, dropped, late, or answered to a member that is
//! frozen.

use howdah_dcs::{LeaseOp, Outcome};
use howdah_ha::{KeeperInput, Promise, Question};
use howdah_types::BootTime;

use crate::{Choice, Settings, World, settings::TICKS, store::Back, world::MEMBERS};

impl World {
    /// The keeper's request travels, and so does its answer.
    pub(crate) fn deliver(&mut self, i: usize, choice: Choice, settings: &Settings) {
        if !self.runs(i) {
            return;
        }
        let Some(op) = self.nodes[i].sent.take() else {
            return;
        };
        if !self.reaches_store(i) {
            self.nodes[i].seen.give_up();
            return self.keeper(i, KeeperInput::Answer(Outcome::Failed("cut off".to_owned())));
        }
        let wire = match self.nodes[i].seen.wire(&self.store, &op) {
            Ok(wire) => wire,
            Err(outcome) => return self.keeper(i, KeeperInput::Answer(outcome)),
        };
        let now = self.now();
        let network: Choice = if settings.faults.network { 4 } else { 0 };
        if choice > 0 {
            self.checker.disturbed = true;
            self.say(|| format!("m{i}: FAULT {choice} on {wire:?}"));
        }
        match choice {
            0 => {
                let back = self.store.carry_out(&wire, now);
                self.hear(i, op, back, now);
            }
            1 if network > 0 => {
                self.store.carry_out(&wire, now);
                self.answer_is_lost(i);
            }
            2 if network > 0 => self.answer_is_lost(i),
            3 | 4 if network > 0 => {
                let delay = if choice == 3 { 1 } else { 8 };
                self.late.push((self.tick + delay * TICKS, wire));
                self.answer_is_lost(i);
            }
            _ => {
                // The request is carried out, and the agent sees the answer only when it thaws.
                let back = self.store.carry_out(&wire, now);
                self.nodes[i].answer = Some((op, back, now));
                self.freeze(
                    i,
                    if (choice - network).is_multiple_of(2) {
                        7
                    } else {
                        3
                    },
                );
            }
        }
    }

    /// The answer to a request that was sent at `sent`; the operation may need another request.
    pub(crate) fn hear(&mut self, i: usize, op: LeaseOp, back: Back, sent: BootTime) {
        let now = self.now();
        match self.nodes[i].seen.hear(back, sent, now) {
            Some(outcome) => self.keeper(i, KeeperInput::Answer(outcome)),
            None => self.nodes[i].sent = Some(op),
        }
    }

    /// The keeper asks the other members, as its agent does: all at once.
    pub(crate) fn ask(&mut self, i: usize, choice: Choice, settings: &Settings) {
        if !self.runs(i) {
            return;
        }
        let Some(question) = self.nodes[i].question.take() else {
            return;
        };
        if choice > 0 {
            self.checker.disturbed = true;
            self.say(|| format!("m{i}: FAULT {choice} on its question"));
        }
        let mut agreed = true;
        for other in 0..MEMBERS {
            if question.members.contains_key(&self.nodes[other].name) {
                agreed &= self.promises(other, i, &question);
            }
        }
        self.say(|| format!("m{i}: asks {:?}: {agreed}", question.members.keys()));
        let network = settings.faults.network;
        match choice {
            0 => self.keeper(
                i,
                KeeperInput::Answers {
                    asked: question.asked,
                    agreed,
                },
            ),
            1 if network => self.keeper(
                i,
                KeeperInput::Answers {
                    asked: question.asked,
                    agreed: false,
                },
            ),
            _ => {
                self.nodes[i].agreed = Some((question.asked, agreed));
                let long = choice == if network { 3 } else { 2 };
                self.freeze(i, if long { 7 } else { 3 });
            }
        }
    }

    /// Whether a member promises another one not to lead.
    fn promises(&mut self, i: usize, leader: usize, question: &Question) -> bool {
        let reached = self.connected(i) && self.connected(leader) && self.runs(i);
        let pg = &self.nodes[i].pg;
        if !reached || pg.primary && pg.serves(self.tick) {
            return false;
        }
        let promise = Promise {
            leader: self.nodes[leader].name.clone(),
            conn_url: format!("postgres://h:{leader}/d"),
            api_url: format!("http://h:{leader}/patroni"),
            asked: Some(question.asked),
            until: self.now() + question.length,
        };
        self.keeper(i, KeeperInput::Asked(promise));
        let node = &mut self.nodes[i];
        if node.promised {
            node.kept = node.keeper.promise(question.asked).cloned();
        }
        node.promised
    }

    fn answer_is_lost(&mut self, i: usize) {
        self.nodes[i].seen.give_up();
        self.keeper(i, KeeperInput::Answer(Outcome::Unknown("lost".to_owned())));
    }
}
