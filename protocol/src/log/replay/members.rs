//! Who belongs to the fleet, and to whom rounds are sealed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ids::KeyId;
use crate::log::body::{Keyset, Roster};
use crate::log::member::{Change, Role};
use crate::log::record::Record;
use crate::log::state::{MemberState, State};

impl State {
    pub(super) fn keyset_record(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Keyset| b.previous)?;
        self.need_root(&statement.signer)?;
        if statement.body.keys.is_empty() {
            return Err("a keyset needs at least one recovery key".into());
        }
        self.said(&statement);
        self.keysets.insert(record.number, statement.body);
        Ok(())
    }

    pub(super) fn roster(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Roster| b.previous)?;
        if !self.is_root(&statement.signer) {
            self.enroller_may(&statement.signer, record.number, &statement.body.changes)?;
        }
        self.changes_agree(&statement.body.changes)?;
        self.said(&statement);
        for change in statement.body.changes {
            match change {
                Change::Admit(member) => {
                    if let Role::Agent { service, .. } = &member.role {
                        let former = self.agent(service).map(|former| former.key);
                        if let Some(former) = former.filter(|former| *former != member.key) {
                            self.revoke(&former, record.number);
                        }
                    }
                    let since = self.members.get(&member.key).map_or(record.number, |known| known.since);
                    if let Role::Agent { service, .. } = &member.role {
                        Arc::make_mut(&mut self.agents).insert(service.clone(), member.key);
                    }
                    let known = MemberState { since, revoked: None, member };
                    Arc::make_mut(&mut self.members).insert(known.member.key, known);
                }
                Change::Revoke(key) => self.revoke(&key, record.number),
            }
        }
        Ok(())
    }

    fn revoke(&mut self, key: &KeyId, number: u64) {
        let Some(member) = Arc::make_mut(&mut self.members).get_mut(key) else { return };
        member.revoked.get_or_insert(number);
        if let Some(service) = member.member.role.service()
            && self.agents.get(service) == Some(key)
        {
            Arc::make_mut(&mut self.agents).remove(service);
        }
    }

    /// What a receipt says must be judged the same for ever: a revocation is final, a key stays with its service, and
    /// one statement says nothing twice.
    fn changes_agree(&self, changes: &[Change]) -> Result<(), String> {
        let (mut keys, mut services) = (BTreeSet::new(), BTreeSet::new());
        for change in changes {
            let key = match change {
                Change::Admit(member) => &member.key,
                Change::Revoke(key) => key,
            };
            if !keys.insert(key) {
                return Err(format!("it names key {} twice", key.short()));
            }
            let Change::Admit(member) = change else { continue };
            let service = member.role.service();
            if service.is_some_and(|service| !services.insert(service)) {
                return Err("it admits two agents for one service".into());
            }
            match self.members.get(key) {
                Some(known) if known.revoked.is_some() => {
                    return Err(format!("key {} was revoked and stays so", key.short()));
                }
                Some(known) if known.member.role.service() != service => {
                    return Err(format!("key {} cannot move to or from a service", key.short()));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// An enroller lets new agents in under its prefix and does nothing else.
    fn enroller_may(&self, signer: &KeyId, number: u64, changes: &[Change]) -> Result<(), String> {
        let Some(Role::Enroller { prefix, until }) = self.role(signer) else {
            return Err(format!("key {} may not change the roster", signer.short()));
        };
        if until.is_some_and(|until| number > until) {
            return Err("the enroller's time is over".into());
        }
        for change in changes {
            let Change::Admit(member) = change else {
                return Err("an enroller only admits".into());
            };
            let Role::Agent { service, .. } = &member.role else {
                return Err("an enroller admits agents only".into());
            };
            if !service.as_str().starts_with(prefix.as_str()) {
                return Err(format!("the enroller may not admit {service}"));
            }
            if self.agent(service).is_some() || self.members.contains_key(&member.key) {
                return Err(format!("{service} has an agent already"));
            }
        }
        Ok(())
    }
}
